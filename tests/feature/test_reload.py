"""`werk worker --reload`, as one who edits sees it."""

from __future__ import annotations

import os
import pty
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from pgwerk import JobStatus, Werk
from tests.feature.test_cli import MODULE, SCRIPT, Command, Project, project_in, until
from tests.feature.test_health import ask
from tests.feature.test_supervisor import children, runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HANDLER = "\n\ndef version():\n    return {}\n"
BROKEN = "error: importing tasks failed at {}:{}: SyntaxError: '(' was never closed"


@pytest.fixture
def project(tmp_path: Path, dsn: str, schema: str) -> Project:
    return project_in(tmp_path, dsn, schema)


def edit(project: Project, text: str) -> None:
    """At once, as editors do, and always in the same second: Python would take a module that it had compiled for it."""
    (project.folder / "new").write_text(text)
    os.utime(project.folder / "new", (1e9, 1e9))
    (project.folder / "new").rename(project.folder / "tasks.py")


def ready(port: int) -> set[int]:
    """Which workers say that they are."""
    status, body = ask(port)
    return {each["id"] for each in body["workers"]} if status == 200 else set()


def has_ended_well(worker: Command, number: signal.Signals = signal.SIGTERM) -> bool:
    worker.send(number)
    return worker.status() == 0


@pytest.mark.parametrize("entry", [MODULE, SCRIPT], ids=["module", "script"])
@pytest.mark.parametrize("processes", [1, 2])
async def test_an_edit_is_run_by_fresh_processes(
    project: Project, app: Werk, entry: Sequence[str], processes: int
) -> None:
    tasks = (project.folder / "tasks.py").read_text()
    edit(project, tasks + HANDLER.format(1))
    arguments = ("worker", "tasks:app", "--reload", "--processes", str(processes))
    with project.start(*arguments, entry=entry) as worker:
        before = children(worker, processes)
        assert await app.apply("tasks.version", timeout=20) == 1
        edit(project, tasks + HANDLER.format(2))
        worker.wait_for("tasks.py has changed; the worker starts anew")
        *_, last = children(worker, 2 * processes)
        assert await app.apply("tasks.version", timeout=20) == 2
        assert not any(map(runs, before))
        assert worker.text.count("has stopped (SIGTERM)") == processes
        assert has_ended_well(worker, signal.SIGINT)
        assert not runs(last)
        assert worker.text.count("has stopped (SIGINT)") == processes


async def test_what_an_edit_breaks_is_said_once_and_the_next_one_mends_it(project: Project, app: Werk) -> None:
    tasks = (project.folder / "tasks.py").read_text()
    with project.start("worker", "tasks:app", "--reload") as worker:
        children(worker, 1)
        edit(project, tasks + "wrong = (\n")
        worker.wait_for("the worker has ended with exit status 1; it starts again when a file changes")
        line = BROKEN.format(project.folder / "tasks.py", len(tasks.splitlines()) + 1)
        assert (worker.text.count(line), worker.text.count("Traceback")) == (1, 0)
        (project.folder / "notes.txt").write_text("no file of Python's")
        edit(project, tasks)
        children(worker, 2)
        assert worker.text.count("has changed") == 2
        assert await app.apply("tests.handlers.echo", 1, timeout=20) == 1
        assert has_ended_well(worker)


async def test_the_app_may_be_broken_from_the_start(project: Project, app: Werk) -> None:
    tasks = (project.folder / "tasks.py").read_text()
    edit(project, "1 / 0\n")
    with project.start("worker", "tasks:app", "--reload") as worker:
        worker.wait_for("it starts again when a file changes")
        worker.send(signal.SIGINT)
        assert worker.status() == 1
    with project.start("worker", "tasks:app", "--reload") as worker:
        worker.wait_for("it starts again when a file changes")
        edit(project, tasks)
        children(worker, 1)
        assert has_ended_well(worker)


def test_what_the_app_lacks_is_said_once(project: Project) -> None:
    (project.folder / "plain.py").write_text("from pgwerk import Werk\napp = Werk()\n")
    with project.start("worker", "plain:app", "--reload") as worker:
        worker.wait_for("the worker has ended with exit status 1; it starts again when a file changes")
        assert worker.text.count("error: there is no database to connect to") == 1
        assert "takes its place" not in worker.text


async def test_what_runs_gets_its_time_and_goes_back(project: Project, app: Werk) -> None:
    job = await app.enqueue("tasks.gated", project.gate)
    assert job is not None
    with project.start("worker", "tasks:app", "--reload") as worker:
        until(project.started)
        (project.folder / "other.py").write_text("")
        worker.wait_for("stops (SIGTERM); 1 running jobs get 30 s to end")
        project.open_gate()
        children(worker, 2)
        assert (await app.get_job(job)).status == JobStatus.Complete
        assert has_ended_well(worker)


async def test_a_second_ctrl_c_cuts_short(project: Project, app: Werk) -> None:
    job = await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    assert job is not None
    with project.start("worker", "tasks:app", "--reload", "--shutdown-timeout", "3600") as worker:
        until(project.started)
        os.killpg(worker.process.pid, signal.SIGINT)
        worker.wait_for("stops (SIGINT)")
        os.killpg(worker.process.pid, signal.SIGINT)
        assert worker.status() == 0
    assert (await app.get_job(job)).status == JobStatus.Queued


async def test_ctrl_c_while_an_edit_waits_for_a_job(project: Project, app: Werk) -> None:
    job = await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    assert job is not None
    with project.start("worker", "tasks:app", "--reload", "--shutdown-timeout", "3600") as worker:
        until(project.started)
        (project.folder / "other.py").write_text("")
        worker.wait_for("stops (SIGTERM)")
        worker.send(signal.SIGINT)
        assert worker.status() == 0
        assert worker.text.count("runs up to") == 1
    assert (await app.get_job(job)).status == JobStatus.Queued


def test_ctrl_c_in_a_terminal(project: Project, app: Werk) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.folder)
        os.execve(sys.executable, [*MODULE, "worker", "tasks:app", "--reload"], project.environment)  # noqa: S606
    said = b""
    while b"runs up to" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)


async def test_the_watchers_death_stops_the_worker(project: Project, app: Werk) -> None:
    with project.start("worker", "tasks:app", "--reload") as worker:
        pids = children(worker, 1)
        worker.send(signal.SIGKILL)
        worker.status()
        until(lambda: not any(map(runs, pids)))
        assert re.search(r"the parent of process \d+ is gone; it stops", worker.text)
        assert worker.text.count("has stopped (SIGTERM)") == 1


async def test_it_answers_probes_across_its_starts(project: Project, app: Werk, port: int) -> None:
    with project.start("worker", "tasks:app", "--reload", "--health-port", str(port)) as worker:
        first = until(lambda: ready(port))
        (project.folder / "other.py").write_text("")
        until(lambda: ready(port) - first)
        assert has_ended_well(worker)


async def test_an_app_elsewhere_is_watched_too(project: Project, app: Werk) -> None:
    """As one that is installed to be edited."""
    elsewhere = project.folder / "src" / "shop"
    (project.folder / "work").mkdir()
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text((project.folder / "tasks.py").read_text())
    path = os.pathsep.join([str(elsewhere.parent), project.environment["PYTHONPATH"]])
    moved = Project(project.folder / "work", {**project.environment, "PYTHONPATH": path})
    with moved.start("worker", "shop:app", "--reload") as worker:
        children(worker, 1)
        (elsewhere / "jobs.py").write_text("")
        worker.wait_for("../src/shop/jobs.py has changed")
        children(worker, 2)
        assert has_ended_well(worker)


def test_without_the_library_the_way_to_it_is_said(project: Project) -> None:
    (project.folder / "watchfiles.py").write_text("raise ImportError\n")
    done = project.run("worker", "tasks:app", "--reload")
    assert (done.returncode, done.stderr) == (
        1, 'error: --reload needs a library that is not here; pip install "pgwerk[reload]"\n'
    )  # fmt: skip


def test_what_no_edit_can_mend_is_refused_at_once(project: Project) -> None:
    done = project.run("worker", "tasks", "--reload")
    assert (done.returncode, done.stderr) == (
        1, "error: an app is named module:attribute, like tasks:app, got 'tasks'\n"
    )  # fmt: skip
