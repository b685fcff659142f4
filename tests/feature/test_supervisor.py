from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pgwerk import InvalidOption, JobStatus, Werk
from pgwerk.worker.supervisor import Supervisor
from tests.feature.test_cli import NOWHERE, Command, Project, project_in, until

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
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return _state(pid) != "Z"  # of a parent that died: process 1 may take its time


def _state(pid: int) -> str | None:
    """A letter; None: it is gone, or the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return None


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


async def test_a_child_that_fails_while_it_stops_is_told(project: Project, app: Werk) -> None:
    await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    with project.start(*TWO, "--shutdown-timeout", "3600") as worker:
        pids = children(worker)
        until(project.started)
        worker.send(signal.SIGTERM)
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
    await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    with project.start(*TWO, "--shutdown-timeout", "3600") as worker:
        pids = children(worker)
        until(project.started)
        worker.send(signal.SIGTERM)
        until(lambda: [_state(pid) for pid in pids].count(None) == 1)
        until(lambda: all(_state(worker.process.pid) == "S" for _ in range(100)))
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
