"""Rows of jobs written by hand, with rubbish in any column that the schema lets through: such a job fails with a clear
error or runs as well as it can, and harms nothing else: those beside it in the same claim complete, the worker lives.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from psycopg import sql

from pgwerk import (
    AsyncWorker,
    JobStatus,
    JSONSerializer,
    NotSerializable,
    PickleSerializer,
    ProcessWorker,
    TypedJSONSerializer,
    Werk,
)
from tests import handlers
from tests.db.race import misplaced

if TYPE_CHECKING:
    from pgwerk import Context, Serializer
    from pgwerk.worker.worker import Worker

DEEP = "[" * 2000 + "]" * 2000
SOUND = {
    "function": "tests.handlers.echo", "payload": '{"args": [7], "kwargs": {}}', "queue": "default", "priority": 0,
    "max_attempts": 1,
}  # fmt: skip


class Rubbish(NamedTuple):
    columns: dict[str, Any]
    error: str | None = None
    """What stands in the job's error; None: it completes."""

    is_readable: bool = True


def payload(text: str, error: str = "holds no arguments") -> Rubbish:
    return Rubbish({"payload": text}, error)


ROWS = {
    "no path": Rubbish({"function": "a"}, "there is no module a for a here"),
    "dots": Rubbish({"function": "...."}, "importing ... for .... failed"),
    "a line break": Rubbish({"function": "a\nb.c"}, "there is no module a\nb for a\nb.c here"),
    "a path without end": Rubbish({"function": "a." * 2000 + "b"}, "RecursionError"),
    "a module": Rubbish({"function": "tests.handlers"}, "tests.handlers is not callable"),
    "a text": Rubbish({"function": "tests.handlers.__name__"}, "tests.handlers.__name__ is not callable"),
    **{
        f"payload {text:.40}": payload(text)
        for text in (
            "null", "1", '"x"', "[]", "{}", '{"args": 1, "kwargs": {}}', '{"args": {}, "kwargs": {}}',
            '{"args": "abc", "kwargs": {}}', '{"args": [], "kwargs": null}', '{"args": [], "kwargs": [["a", 1]]}',
        )
    },
    "too many arguments": payload('{"args": [1, 2], "kwargs": {}}', "takes 1 positional argument but 2 were given"),
    "an argument twice": payload('{"args": [1], "kwargs": {"value": 1}}', "got multiple values for argument 'value'"),
    "a name of nothing": payload('{"args": [], "kwargs": {"": 1}}', "got an unexpected keyword argument ''"),
    "a deep payload": Rubbish({"payload": DEEP}, "the payload of job {} cannot be read", is_readable=False),
    "no number": Rubbish({"payload": '{"args": [1e400], "kwargs": {}}'}, "cannot be read", is_readable=False),
    "a deep meta": Rubbish({"meta": f'{{"a": {DEEP}}}'}, is_readable=False),
    "much meta": Rubbish({"meta": f'{{"a": "{"x" * 1_000_000}"}}'}),
    "a callback of nobody": Rubbish({"callback_of": 10**15}, "cannot be stored"),
    "a callback of less": Rubbish({"callback_of": -1}, "cannot be stored"),
    "a moment": Rubbish({"timeout_secs": 1e-300}, "the attempt took longer than its 1e-300 s"),
    "no time to start": Rubbish({"ttl": 1e-300}),
    "a fast heart": Rubbish({"heartbeat_secs": 1e-300}),
    "gone at once": Rubbish({"failure_ttl": 1e-300}),
    "for ever again": Rubbish({"max_attempts": 2**31 - 1, "repeat_remaining": 2**31 - 1, "repeat_intervals": "{3e9}"}),
    "used up": Rubbish({"max_attempts": 5, "attempts_before": 5}),
    "no callback there": Rubbish({"on_success": '{"function": "no.such"}', "on_failure": '{"function": "1"}'}),
    "a large id": Rubbish({"id": 2**63 - 2}),
    "an odd key": Rubbish({"key": "'; drop table job; --\n"}),
    "an odd schedule": Rubbish({"schedule_name": "\\'\""}),
    **{
        f"{column} {moment}": Rubbish({column: moment})
        for column in ("enqueued_at", "scheduled_at")
        for moment in ("infinity", "-infinity", "4000-01-01 BC", "20000-01-01")
    },
}  # fmt: skip


def write(query: Any, columns: dict[str, Any]) -> int:
    row = SOUND | columns
    names, holes = sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join([sql.Placeholder()] * len(row))
    insert = sql.SQL("insert into job ({}) values ({}) returning id").format(names, holes)
    ((job,),) = query(insert, *row.values())
    query("insert into ready (queue, priority, seq, job_id, attempt) values ('default', 0, %s, %s, 1)", job, job)
    return int(job)


async def look(ctx: Context) -> None:
    assert ctx.job.function


@pytest.mark.parametrize(("kind", "has_hooks"), [(AsyncWorker, False), (AsyncWorker, True), (ProcessWorker, False)])
async def test_rubbish_fails_alone(app: Werk, query: Any, kind: type[Worker], has_hooks: bool) -> None:
    written, beside = {}, [await app.enqueue(handlers.square, 1)]
    for name, rubbish in ROWS.items():
        written[name] = write(query, rubbish.columns)
        beside.append(await app.enqueue(handlers.square, 1))
    worker = kind(app, burst=True, concurrency=100, before_process=[look] if has_hooks else None)
    await worker.run()
    assert [(await app.get_job(job)).status for job in beside if job] == [JobStatus.Complete] * len(beside)
    listed = {job.id: job for job in await app.list_jobs(limit=1000)}
    for name, rubbish in ROWS.items():
        job = listed[written[name]]
        if has_hooks and not rubbish.is_readable:  # the hook could not be told of it
            assert job.status is JobStatus.Failed
            continue
        assert (name, job.status) == (name, JobStatus.Failed if rubbish.error else JobStatus.Complete)
        assert (rubbish.error or "").format(job.id) in (job.error or "")
    assert misplaced(query) == []


@pytest.mark.parametrize("name", [name for name, rubbish in ROWS.items() if not rubbish.is_readable])
async def test_what_cannot_be_read_spoils_no_list(app: Werk, query: Any, name: str) -> None:
    job = write(query, ROWS[name].columns)
    beside = await app.enqueue(handlers.noop)
    assert beside is not None
    with pytest.raises(NotSerializable, match=f"of job {job} cannot be read"):
        await app.get_job(job)
    assert {each.id for each in await app.list_jobs()} == {job, beside.id}
    assert await app.bulk_cancel_jobs() == 2
    assert await app.bulk_requeue_jobs() == 2
    assert await app.delete_job(job)


async def test_a_row_that_stands_nowhere_is_no_job(app: Werk, query: Any) -> None:
    query("insert into job (function, payload, queue, priority, max_attempts) values ('m.f', '{}', 'default', 0, 1)")
    beside = await app.enqueue(handlers.noop)
    assert beside is not None
    assert [job.id for job in await app.list_jobs()] == [beside.id]
    assert await app.bulk_cancel_jobs() == 1


@pytest.mark.parametrize("serializer", [JSONSerializer(), TypedJSONSerializer()])
async def test_a_pickle_is_refused_unless_the_app_chose_pickle(app: Werk, query: Any, serializer: Serializer) -> None:
    """As a payload, or deep within one: it is a text like any other."""
    pickled = PickleSerializer().dumps({"args": [os.getpid], "kwargs": {}}).decode()
    whole, within = (
        write(query, {"payload": pickled}),
        write(query, {"payload": f'{{"args": [{pickled}], "kwargs": {{}}}}'}),
    )
    cautious = Werk(config=app.config, serializer=serializer)
    await AsyncWorker(cautious, burst=True).run()
    assert "holds no arguments; was it enqueued by an app with another serializer?" in (
        (await app.get_job(whole)).error or ""
    )
    assert (await app.get_job(within)).result == json.loads(pickled)
    trusting = Werk(config=app.config, serializer=PickleSerializer())
    chosen = write(query, {"payload": pickled})
    await AsyncWorker(trusting, burst=True).run()
    async with trusting:
        assert (await trusting.get_job(chosen)).result is os.getpid
