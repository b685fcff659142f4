"""A row in the table names a function, and whoever can write there can name any: `allow` says which of them run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import InvalidOption, JobStatus, Werk
from tests import handlers
from tests.feature.test_cli import Project, project_in
from tests.feature.test_worker_kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from pgwerk.worker.worker import Worker

BY_HAND = """
with written as (
    insert into job (function, payload, queue, priority, max_attempts, on_failure)
    values (%s, %s, 'default', 0, 1, %s) returning id)
insert into ready (queue, priority, seq, job_id, attempt) select 'default', 0, id, id, 1 from written returning job_id
"""
NO = "{} is not allowed here, only tests.handlers.*; the setting allow says what may be a job"


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """There, if a command was run after all."""
    return tmp_path / "it_was_run"


def write(query: Any, trap: Path, function: str = "os.system", callback: str | None = None) -> int:
    payload = f'{{"args": ["touch {trap}"], "kwargs": {{}}}}'
    ((job,),) = query(BY_HAND, function, payload, callback)
    return int(job)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_row_that_names_another_function_fails_and_harms_nobody(
    app: Werk, query: Any, trap: Path, kind: type[Worker]
) -> None:
    beside = [await app.enqueue(handlers.square, 2), write(query, trap), await app.enqueue(handlers.square, 3)]
    around = write(query, trap, "tests.handlers.asyncio.subprocess.create_subprocess_shell")
    guarded = Werk(config=app.config.changed(allow=["tests.handlers.*"]))
    await kind(guarded, burst=True).run()
    first, forbidden, last = [await app.get_job(job) for job in beside if job]
    assert (first.result, last.result) == (4, 9)
    assert (forbidden.status, forbidden.error) == (JobStatus.Failed, NO.format("os.system"))
    assert "subprocess.create_subprocess_shell is not allowed here" in ((await app.get_job(around)).error or "")
    assert not trap.exists()


async def test_a_row_whose_callback_is_another_function_calls_nothing(app: Werk, query: Any, trap: Path) -> None:
    job = write(query, trap, "tests.handlers.fail", '{"function": "os.abort"}')
    guarded = Werk(config=app.config.changed(allow=["tests.handlers.*"]))
    async with guarded:
        await KINDS[0](guarded, burst=True).run()
    ((error,),) = query("select error from attempt join job on job.id = job_id where callback_of = %s", job)
    assert error == NO.format("os.abort")


async def test_enqueue_refuses_it_at_once(app: Werk, query: Any) -> None:
    async with Werk(config=app.config, allow=["tests.handlers.*"]) as guarded:
        for call in (guarded.enqueue, guarded.apply):
            with pytest.raises(InvalidOption, match=r"^func os\.getcwd is not allowed here"):
                await call("os.getcwd")
        with pytest.raises(InvalidOption, match=r"^_on_success os\.getcwd is not allowed here"):
            await guarded.enqueue(handlers.noop, _on_success="os.getcwd")
        assert await guarded.enqueue(handlers.noop) is not None
    assert query("select count(*) from job") == [(1,)]


@pytest.mark.parametrize("way", ["--allow", "PGWERK_ALLOW"])
async def test_a_worker_is_told_from_outside(
    app: Werk, query: Any, trap: Path, tmp_path: Path, dsn: str, schema: str, way: str
) -> None:
    forbidden, job = write(query, trap), await app.enqueue(handlers.square, 2)
    assert job is not None
    project: Project = project_in(tmp_path, dsn, schema)
    options = ["--allow", "tests.handlers.*, shop.charge"] if way == "--allow" else []
    environment = {} if options else {way: "tests.handlers.*, shop.charge"}
    done = project.run("worker", "tasks:app", "--burst", *options, **environment)
    assert done.returncode == 0, done.stderr
    assert (await app.get_job(job)).result == 4
    assert "os.system is not allowed here, only tests.handlers.*, shop.charge" in (
        (await app.get_job(forbidden)).error or ""
    )
    assert not trap.exists()
