"""Every text that reaches SQL is tried with what would break out of it: it stays a text, and comes back as it was."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgwerk import AsyncWorker, InvalidOption, JobStatus, Werk
from tests import handlers
from tests.db.race import misplaced
from tests.faults.odd import INJECTIONS

if TYPE_CHECKING:
    from pgwerk import Context

BY_HAND = """
with written as (
    insert into job (function, payload, queue, priority, max_attempts)
    values (%s, '{"args": [], "kwargs": {}}', 'default', 0, 1) returning id)
insert into ready (queue, priority, seq, job_id, attempt) select 'default', 0, id, id, 1 from written
"""
SCHEMAS = "select nspname from pg_namespace where nspname !~ '^(pg_|information_schema$|public$)'"


def raise_it(text: str) -> None:
    raise ValueError(text)


def name_of(ctx: Context) -> str | None:
    return ctx.worker.name


async def test_texts_stay_texts(app: Werk, query: Any) -> None:
    """As queue, key, group, argument, meta, error and result; and asked for by each of them."""
    jobs = {}
    for text in INJECTIONS:
        options: dict[str, Any] = {"_queue": text, "_group": text, "_meta": {text: text}}
        jobs[text] = (
            await app.enqueue(handlers.echo, text, _key=text, **options),
            await app.enqueue(raise_it, text, **options),
        )
        assert await app.enqueue(handlers.echo, text, _key=text) is None
    await AsyncWorker(app, queues=INJECTIONS, burst=True).run()
    for text, (echoed, raised) in jobs.items():
        assert echoed is not None
        assert raised is not None
        found, failed = await app.get_job(echoed), await app.get_job(raised)
        assert [found.queue, found.key, found.group_key, found.result] == [text] * 4
        assert found.meta == {text: text}
        assert (failed.error or "").endswith(f"ValueError: {text}")
        for filters in ({"queue": text}, {"group": text}, {"meta": {text: text}}):
            assert {job.id for job in await app.list_jobs(**filters)} == {echoed.id, raised.id}
        assert [job.id for job in await app.list_jobs(key=text)] == [echoed.id]
        assert {echoed.id, raised.id} <= {job.id for job in await app.list_jobs(search=text, limit=1000)}
        assert await app.list_jobs(function=text) == []
        assert await app.update_job(key=text, priority=1) is None  # it has ended
    assert {stats.queue for stats in await app.get_queue_stats()} == set()
    assert query("select count(*) from job") == [(2 * len(INJECTIONS),)]
    assert misplaced(query) == []


async def test_a_function_is_a_path_or_refused(app: Werk, query: Any) -> None:
    """By enqueue; and in a row written by hand, it fails its job."""
    for text in INJECTIONS:
        if text != "pgwerk.job":  # that is one
            with pytest.raises(InvalidOption, match="func must be a dotted path"):
                await app.enqueue(text)
        query(BY_HAND, text)
    await AsyncWorker(app, burst=True).run()
    jobs = {job.function: job for job in await app.list_jobs(limit=1000)}
    assert jobs.keys() == set(INJECTIONS)
    assert {job.status for job in jobs.values()} == {JobStatus.Failed}


async def test_a_schemas_name_is_a_name_or_refused(own_dsn: str) -> None:
    made = set()
    for text in INJECTIONS[::5]:
        try:
            app = Werk(own_dsn, schema=text)
        except InvalidOption as error:
            assert "a schema's name has" in str(error)  # noqa: PT017 - some are taken
            continue
        async with app:
            job = await app.enqueue(handlers.square, 3)
            await AsyncWorker(app, burst=True).run()
            assert job is not None
            assert (await app.get_job(job)).result == 9
        made.add(text)
    with psycopg.connect(own_dsn) as connection:
        assert {name for (name,) in connection.execute(SCHEMAS).fetchall()} == made


async def test_a_host_may_have_any_name(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in INJECTIONS[:3]:
        monkeypatch.setattr(socket, "gethostname", lambda text=text: text)
        job = await app.enqueue(name_of)
        await AsyncWorker(app, burst=True).run()
        assert job is not None
        assert str((await app.get_job(job)).result).startswith(f"{text}:")
    assert {worker.name.rpartition(":")[0] for worker in await app.list_workers()} == set(INJECTIONS[:3])
