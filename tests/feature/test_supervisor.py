from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgwerk import InvalidOption, JobStatus, Werk
from pgwerk.worker.supervisor import Supervisor
from tests.feature.test_cli import NOWHERE, Command, Project, project_in, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TWO = ("worker", "tasks:app", "--processes", "2")


@pytest.fixture
def project(tmp_path: Path, dsn: str, schema: str) -> Project:
    return project_in(tmp_path, dsn, schema)


def children(worker: Command, count: int = 2) -> list[int]:
    """Process ids of the children that have started as workers, in that order."""
    started = r"worker \S+:(\d+) \(\d+\) runs up to"
    until(lambda: len(re.findall(started, worker.text)) >= count)
    return [int(pid) for pid in re.findall(started, worker.text)]


def runs(pid: int) -> bool:
    """What tells whether it is there is asked last: it may go in between."""
    if _state(pid) == "Z":  # of a parent that died: process 1 may take its time
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _state(pid: int) -> str | None:
    """A letter; None: it is gone, or the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return None


@pytest.fixture
def stranger(own_dsn: str) -> Iterator[str]:
    """The DSN of a role that has no rights."""
    name = f"role_{secrets.token_hex(6)}"
    role = sql.Identifier(name)
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password {}").format(role, "secret"))
        yield make_conninfo(own_dsn, user=name, password="secret")  # noqa: S106
        connection.execute(sql.SQL("drop role {}").format(role))


def ends_as_one(project: Project, *arguments: str, several: tuple[str, ...] = ("--processes", "2")) -> str:
    """What several processes say in the words of a single one."""
    one = project.run("worker", *arguments)
    all_of_them = project.run("worker", *arguments, *several)
    assert (one.returncode, one.stdout, one.stderr.count("\n")) == (1, "", 1)
    assert (all_of_them.returncode, all_of_them.stdout, all_of_them.stderr) == (1, "", one.stderr)
    return one.stderr


def test_at_least_one() -> None:
    with pytest.raises(InvalidOption, match="processes must be at least 1, got 0"):
        Supervisor(lambda _: None, 0, patience=1)


def test_children_stop_with_their_parent(project: Project, app: Werk) -> None:
    with project.start(*TWO) as worker:
        first, second = children(worker)
        assert len({first, second, worker.process.pid}) == 3
        assert [os.getpgid(pid) for pid in (first, second)] == [first, second]
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
        assert worker.text.count("has stopped (SIGTERM)") == 2
        assert not runs(first)
        assert not runs(second)


async def test_ctrl_c_hands_back_what_runs(project: Project, app: Werk) -> None:
    jobs = [await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper) for _ in range(4)]
    with project.start(*TWO, "--concurrency", "2", "--shutdown-timeout", "0.1") as worker:
        until(lambda: project.started() == 4)
        os.killpg(worker.process.pid, signal.SIGINT)
        assert worker.status() == 0
        assert worker.text.count("stops (SIGINT)") == 2
    assert [(await app.get_job(job)).status for job in jobs if job] == [JobStatus.Queued] * 4


async def test_a_second_signal_cuts_short(project: Project, app: Werk, query: Any) -> None:
    await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    with project.start(*TWO, "--shutdown-timeout", "3600") as worker:
        children(worker)
        until(project.started)
        worker.send(signal.SIGTERM)
        worker.wait_for("stops (SIGTERM)", times=2)
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
    assert query("select count(*) from ready") == [(1,)]


async def test_a_killed_child_is_replaced(project: Project, app: Werk) -> None:
    with project.start(*TWO) as worker:
        first, second = children(worker)
        os.kill(first, signal.SIGKILL)
        worker.wait_for(f"worker process {first} ended with signal SIGKILL; another one takes its place in 0.5 s")
        *_, third = children(worker, 3)
        assert runs(second)
        os.kill(second, signal.SIGTERM)
        worker.wait_for(f"worker process {second} ended with exit status 0; another one takes its place in 0.5 s")
        *_, fourth = children(worker, 4)
        assert runs(third)
        assert await app.apply("tests.handlers.echo", 1, timeout=20) == 1
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
        assert not runs(fourth)


async def test_a_child_that_has_run_its_jobs_is_replaced(project: Project, app: Werk, query: Any) -> None:
    jobs = [await app.enqueue("tests.handlers.echo", number) for number in range(20)]
    with project.start("worker", "tasks:app", "--max-jobs", "8", "--poll-interval", "0.1") as worker:
        first, second, third = children(worker, 3)
        for job in jobs:
            assert job is not None
            assert (await app.wait_for(job, timeout=20)).status == JobStatus.Complete
        worker.wait_for("has stopped (it has run 8 jobs)", times=2)
        assert f"worker process {first} has done its part; another one takes its place" in worker.text
        assert "ended with" not in worker.text
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
        assert not any(map(runs, (first, second, third)))
    ran = query("select count(*) from finished group by worker_id order by worker_id")
    assert ran == [(8,), (8,), (4,)]


async def test_a_child_that_grows_is_replaced(project: Project, app: Werk) -> None:
    with project.start("worker", "tasks:app", "--max-memory", "300", "--poll-interval", "0.1") as worker:
        (first,) = children(worker, 1)
        await app.enqueue("tests.handlers.keep_megabytes", 300)
        worker.wait_for("MiB of memory)")
        _, second = children(worker, 2)
        assert f"worker process {first} has done its part; another one takes its place" in worker.text
        assert await app.apply("tests.handlers.echo", 1, timeout=20) == 1
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
        assert not runs(second)


async def test_a_kept_process_that_grows_is_replaced_and_its_worker_goes_on(project: Project, app: Werk) -> None:
    kind = ("--worker-type", "process", "--concurrency", "1", "--max-memory", "300")
    with project.start("worker", "tasks:app", *kind) as worker:
        first = await app.apply("os.getpid", timeout=20)
        assert await app.apply("os.getpid", timeout=20) == first
        await app.apply("tests.handlers.keep_megabytes", 300, timeout=20)
        assert await app.apply("os.getpid", timeout=20) != first
        until(lambda: not runs(first))
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
        assert worker.text.count("runs up to") == 1


async def test_a_burst_ends_although_its_children_are_replaced(project: Project, app: Werk) -> None:
    jobs = [await app.enqueue("tests.handlers.echo", number) for number in range(20)]
    done = project.run("worker", "tasks:app", "--max-jobs", "8", "--burst")
    assert done.returncode == 0
    assert done.stderr.count("has done its part") == 2
    assert {(await app.get_job(job)).status for job in jobs if job} == {JobStatus.Complete}


async def test_the_parents_death_stops_the_children(project: Project, app: Werk) -> None:
    job = await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    assert job is not None
    with project.start(*TWO, "--shutdown-timeout", "0.1") as worker:
        pids = children(worker)
        until(project.started)
        worker.send(signal.SIGKILL)
        worker.status()
        until(lambda: not any(map(runs, pids)))
        assert worker.text.count("is gone; it stops") == 2
        assert worker.text.count("has stopped (SIGTERM)") == 2
    assert (await app.get_job(job)).status == JobStatus.Queued


def test_a_child_that_always_fails_is_tried_ever_more_slowly(project: Project) -> None:
    with project.start(*TWO, "--dsn", NOWHERE) as worker:
        worker.wait_for("another one takes its place in 1 s", times=2)
        worker.send(signal.SIGTERM)
        assert worker.status() == 1
        assert worker.text.count("no connection to Postgres at 127.0.0.1") == 4
        assert worker.text.count("ended with exit status 1; another one takes its place in 0.5 s") == 2
        assert "Traceback" not in worker.text


@contextlib.asynccontextmanager
async def stopping(project: Project, app: Werk) -> AsyncIterator[tuple[Command, list[int]]]:
    """Two children that were told to end, of which one runs a job for hours."""
    await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    with project.start(*TWO, "--shutdown-timeout", "3600") as worker:
        pids = children(worker)
        until(project.started)
        worker.send(signal.SIGTERM)
        yield worker, pids


async def test_a_child_that_fails_while_it_stops_is_told(project: Project, app: Werk) -> None:
    async with stopping(project, app) as (worker, pids):
        worker.wait_for("has stopped (SIGTERM)")
        until(lambda: sum(map(runs, pids)) == 1)
        (left,) = filter(runs, pids)
        os.kill(left, signal.SIGKILL)
        assert worker.status() == 1
        assert f"worker process {left} ended with signal SIGKILL while it stopped" in worker.text


async def test_burst_ends_when_all_children_have_ended(project: Project, app: Werk) -> None:
    jobs = [await app.enqueue("tests.handlers.echo", number) for number in range(20)]
    done = project.run(*TWO, "--burst")
    assert done.returncode == 0
    assert done.stderr.count("has stopped (nothing is left)") == 2
    assert {(await app.get_job(job)).status for job in jobs if job} == {JobStatus.Complete}


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell how its processes are")
async def test_a_parent_rests_until_its_last_child_has_ended(project: Project, app: Werk) -> None:
    async with stopping(project, app) as (worker, pids):
        until(lambda: [_state(pid) for pid in pids].count(None) == 1)
        until(lambda: all(_state(worker.process.pid) == "S" for _ in range(100)))
        worker.send(signal.SIGTERM)
        assert worker.status() == 0


def test_a_child_that_is_worn_before_it_has_run_a_job_has_failed(project: Project, app: Werk) -> None:
    with project.start("worker", "tasks:app", "--max-memory", "10") as worker:
        worker.wait_for("another one takes its place in 1 s")
        assert re.search(
            r"WARNING .* has run no job, and it uses \d+ of 10 MiB of memory; raise max_memory", worker.text
        )
        assert "has done its part" not in worker.text
        worker.send(signal.SIGTERM)
        assert worker.status() == 1


def test_a_burst_whose_child_is_worn_at_once_has_failed(project: Project, app: Werk) -> None:
    done = project.run("worker", "tasks:app", "--max-memory", "10", "--burst")
    assert done.returncode == 1
    assert done.stderr.count("has run no job") == 1


@pytest.mark.parametrize("several", [("--processes", "2"), ("--max-jobs", "8")])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plain:app",), "error: there is no database to connect to; "),
        (("tasks:app", "--queues", "a:0"), "error: the weight of a queue must be more than 0, got 0.0 for 'a'"),
    ],
)
def test_what_can_never_work_ends_all_of_them(
    project: Project, app: Werk, several: tuple[str, ...], arguments: tuple[str, ...], words: str
) -> None:
    (project.folder / "plain.py").write_text("from pgwerk import Werk\napp = Werk()\n")
    assert ends_as_one(project, *arguments, several=several).startswith(words)


async def test_a_schema_that_is_too_new_ends_all_of_them(project: Project, app: Werk, query: Any) -> None:
    query("insert into migration (version, name, serves) values (99, 'next', 99)")
    assert "serves code from version 99 on" in ends_as_one(project, "tasks:app")


async def test_a_schema_that_becomes_too_new_ends_those_that_run(project: Project, app: Werk, query: Any) -> None:
    with project.start(*TWO) as worker:
        first, second = children(worker)
        query("insert into migration (version, name, serves) values (99, 'next', 99)")
        os.kill(first, signal.SIGKILL)
        assert worker.status() == 1
        assert worker.text.count("serves code from version 99 on") == 1
        assert worker.text.count("has stopped (SIGTERM)") == 1
        assert not runs(second)


def test_a_right_that_is_missing_ends_all_of_them(project: Project, stranger: str) -> None:
    said = ends_as_one(project, "tasks:app", "--dsn", stranger)
    assert said.startswith("error: the role ")
    assert "permission denied for database" in said


def test_a_burst_without_a_server_ends(project: Project) -> None:
    assert ends_as_one(project, "tasks:app", "--dsn", NOWHERE, "--burst").startswith("error: no connection to Postgres")


def test_what_a_server_may_take_later_is_said_in_a_line_and_tried_again(project: Project, app: Werk, dsn: str) -> None:
    standby = make_conninfo(dsn, options="-c default_transaction_read_only=on")
    with project.start(*TWO, "--dsn", standby) as worker:
        worker.wait_for("another one takes its place in 1 s", times=2)
        worker.send(signal.SIGTERM)
        assert worker.status() == 1
        assert worker.text.count("the server said no: cannot execute") == 4
        assert "Traceback" not in worker.text
