"""Each version of Postgres that this machine has besides the one that all the other tests run on (`make test-matrix`
runs them all on all): the schema, and a job of every kind from enqueue to its end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgwerk import AsyncWorker, Dependency, EnqueueParams, JobStatus, Repeat, Retry, Werk, embedded
from tests import handlers
from tests.db import dump
from tests.matrix import here, major_of

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL = None if os.environ.get("PGWERK_TEST_DSN") else major_of(embedded._find_tools().folder)
OTHERS = {major: folder for major, folder in here().items() if major != USUAL}


@pytest.fixture(scope="module", params=OTHERS, ids=lambda major: f"postgres-{major}")
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PGWERK_POSTGRES_BIN", str(OTHERS[request.param]))
        own = embedded.start(tmp_path_factory.mktemp("postgres"), durable=False)
    with psycopg.connect(own.dsn) as connection:
        assert connection.info.server_version // 10_000 == request.param
    yield own.dsn
    own.close()


async def test_jobs_of_every_kind_come_to_their_end(other: str) -> None:
    async with Werk(other) as app:
        jobs = await app.enqueue_many([EnqueueParams(handlers.square, [number]) for number in range(1200)])
        first = await app.enqueue(handlers.square, 3, _group="g", _key="once", _on_success=handlers.remember)
        assert first is not None
        assert await app.enqueue(handlers.square, 3, _key="once") is None
        jobs += [
            first,
            await app.enqueue(handlers.echo, "x", _group="g", _priority=5, _meta={"a": 1}, _result_ttl=60),
            await app.enqueue(handlers.square, 4, _depends_on=[first, Dependency(first, allow_failure=True)]),
            await app.enqueue(handlers.square, 5, _repeat=Repeat(2)),
            await app.enqueue(handlers.fail_until, 2, _retry=Retry(2), _heartbeat=5, _timeout=60),
        ]
        failed = await app.enqueue(handlers.fail, _on_failure=handlers.remember)
        doomed = await app.enqueue(handlers.noop, _depends_on=failed)
        late = await app.enqueue(handlers.noop, _delay=3600)
        assert failed is not None
        assert doomed is not None
        assert late is not None
        assert await app.update_job(late, priority=3, meta={"b": 2}) is not None
        assert await app.cancel_job(late)
        await AsyncWorker(app, burst=True).run()
        assert {(await app.get_job(job)).status for job in jobs[1150:] if job} == {JobStatus.Complete}
        assert (await app.get_job(doomed)).error == f"dependency {failed.id} (tests.handlers.fail) failed"
        assert await app.requeue_job(failed)
        assert {job.id for job in await app.list_jobs(status="aborted", search="NOOP")} == {late.id}
        assert [stats.queued for stats in await app.get_queue_stats()] == [1]
        assert await app.purge_jobs(["complete"]) == 1200 + 5 + 2 + 2  # repeats, callbacks
        await app.sweep()
        await app.vacuum()


def test_the_schema_is_the_same(other: str) -> None:
    assert dump.current(other) == dump.FILE.read_text()
