from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import Field, dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pgwerk
from pgwerk import JobStatus, Werk, WerkConfig
from pgwerk.cli.worker import worker
from pgwerk.config import environ_name
from pgwerk.signals import DEAF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(pgwerk.__file__).parents[1]
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
MODULE = (sys.executable, "-m", "pgwerk")
SCRIPT = (str(Path(sys.executable).with_name("werk")),)

TASKS = """
import asyncio, os, pathlib, types
from pgwerk import Werk, WerkConfig
from tests import handlers

app = Werk(os.environ["TEST_DSN"], schema=os.environ["TEST_SCHEMA"])
own = Werk(config=WerkConfig(dsn=app.config.dsn, schema=app.config.schema, concurrency=7))
within = types.SimpleNamespace(app=app)
number = 5

def gated(path):
    gate = pathlib.Path(path)
    gate.with_name("started").write_text("1")
    return gate.read_text()  # waits for somebody to write

async def stuck_in_asyncio(path):
    await asyncio.to_thread(gated, path)
"""

# One write with its end of line: an unbuffered print makes two, and another process's comes between them.
STARTING = """
import os, time

@app.on_startup
def prepare():
    os.write(1, b"preparing\\n")
    time.sleep(3600)
"""


def until(fact: Callable[[], Any], seconds: float = 20) -> Any:
    """What the fact is, as soon as it is anything."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return found


@dataclass
class Command:
    """A `werk` that runs, and what it has written so far."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + 20
        while self.text.count(text) < times:
            assert self.process.poll() is None, f"it ended and never said {text!r}: {self.text}"
            assert time.monotonic() < deadline, f"it never said {text!r}: {self.text}"
            time.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        return self.process.wait(20)


@dataclass
class Project:
    """A user's folder, with an app on the test's schema in tasks.py."""

    folder: Path
    environment: dict[str, str]

    @property
    def gate(self) -> str:
        """Where `tasks.gated` waits."""
        path = self.folder / "gate"
        if not path.exists():
            os.mkfifo(path)
        return str(path)

    def open_gate(self) -> None:
        Path(self.gate).write_text("go")

    @property
    def sleeper(self) -> tuple[str, str, int]:
        """For `handlers.write_and_sleep`."""
        return str(self.folder / "started"), "1", 3600

    def started(self) -> int:
        """Handlers that have said so."""
        path = self.folder / "started"
        return len(path.read_text().split()) if path.exists() else 0

    def run(self, *arguments: str, entry: Sequence[str] = MODULE, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*entry, *arguments], cwd=self.folder, env=self.environment | more,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    @contextlib.contextmanager
    def start(self, *arguments: str, entry: Sequence[str] = MODULE) -> Iterator[Command]:
        output = self.folder / "output"
        with output.open("wb") as out:
            process = subprocess.Popen(
                [*entry, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=out,
                process_group=0,
            )
        try:
            yield Command(process, output)
        finally:
            process.kill()
            process.wait()


def project_in(folder: Path, dsn: str, schema: str) -> Project:
    (folder / "tasks.py").write_text(TASKS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PGWERK_")}
    return Project(folder, {**clean, "PYTHONPATH": str(ROOT), "TEST_DSN": dsn, "TEST_SCHEMA": schema})


@pytest.fixture
def project(tmp_path: Path, dsn: str, schema: str) -> Project:
    return project_in(tmp_path, dsn, schema)


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("entry", [MODULE, SCRIPT], ids=["module", "script"])
def test_help_shows_every_setting(project: Project, entry: Sequence[str]) -> None:
    done = project.run("worker", "--help", entry=entry)
    shown = one_line(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    for setting in fields(WerkConfig):
        default = {"None": "unset", "True": "on", "False": "off"}.get(str(setting.default), str(setting.default))
        assert f"--{setting.name.replace('_', '-')} " in shown
        assert (
            f"{setting.metadata['text']} [default: {default.removesuffix('.0')}; {environ_name(setting.name)}]" in shown
        )


def test_version_and_commands(project: Project) -> None:
    assert "werk, version" in project.run("--version").stdout
    assert all(f"\n  {name} " in project.run("--help").stdout for name in ("worker", "migrate", "demo"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "tasks:app", "--concurency", "3"],
        ["worker", "tasks:app", "--concurrency", "0"],
        ["worker", "tasks:app", "--processes", "many"],
        ["worker", "tasks:app", "--shutdown-timeout", "-1"],
        ["worker"],
        ["work"],
    ],
)
def test_wrong_usage(project: Project, arguments: list[str]) -> None:
    done = project.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: werk")
    assert "\nError: " in done.stderr


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("tasks", "error: an app is named module:attribute, like tasks:app, got 'tasks'"),
        ("tusks:app", "error: there is no module tusks in {folder} or on sys.path, looked for as tusks:app"),
        ("tasks.deeper:app", "error: there is no module tasks.deeper in {folder}"),
        ("tasks:ap", "error: tasks has no ap, looked for as tasks:ap"),
        ("tasks:within.ap", "error: tasks has no within.ap, looked for as tasks:within.ap"),
        ("tasks:number", "error: tasks:number is no Werk, it is 5"),
        (
            "broken:app",
            "error: importing broken failed at {folder}/broken.py:2: ZeroDivisionError: division by zero",
        ),
        (
            "lacking:app",
            "error: importing lacking failed at {folder}/lacking.py:1: ModuleNotFoundError: No module",
        ),
        (
            "unclosed:app",
            "error: importing unclosed failed at {folder}/unclosed.py:2: SyntaxError: '(' was never closed",
        ),
    ],
)
def test_wrong_app(project: Project, app: str, words: str) -> None:
    (project.folder / "broken.py").write_text("app = None\n1 / 0\n")
    (project.folder / "lacking.py").write_text("import no.such.thing\n")
    (project.folder / "unclosed.py").write_text("app = None\napp = (\n")
    done = project.run("worker", app)
    assert done.stderr.startswith(words.format(folder=project.folder))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["worker", "tasks:app", "--dsn", NOWHERE],
            "error: no connection to Postgres at 127.0.0.1, database nothing: ",
        ),
        (["worker", "tasks:app", "--dsn", "nonsense"], "error: not a DSN that Postgres understands"),
        (["worker", "tasks:app", "--schema", 'a"b'], "error: a schema's name has 1 to 63 bytes"),
        (
            ["worker", "tasks:app", "--queues", "a:0"],
            "error: the weight of a queue must be more than 0, got 0.0 for 'a'",
        ),
        (["worker", "tasks:app", "--queues", ""], "error: queues must be at least one name"),
        (["worker", "tasks:app", "--no-auto-migrate"], "error: the database has no schema"),
        (["migrate", "--dsn", NOWHERE], "error: no connection to Postgres at 127.0.0.1, database nothing: "),
        (["migrate"], "error: there is no database to connect to"),
    ],
)
def test_what_can_never_work_is_said_in_one_line(project: Project, arguments: list[str], words: str) -> None:
    done = project.run(*arguments)
    assert done.stderr.startswith(words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_no_processes_from_the_environment(project: Project) -> None:
    (project.folder / "plain.py").write_text("from pgwerk import Werk\napp = Werk()\n")
    done = project.run("worker", "plain:app", PGWERK_PROCESSES="0")
    assert done.returncode == 1
    assert done.stderr.endswith("PGWERK_PROCESSES (the setting processes) must be at least 1, got 0\n")


@pytest.mark.parametrize("entry", [MODULE, SCRIPT], ids=["module", "script"])
async def test_burst_runs_what_its_queues_hold(project: Project, app: Werk, entry: Sequence[str]) -> None:
    jobs = [await app.enqueue("tests.handlers.echo", name, _queue=name) for name in ("a", "b", "c")]
    done = project.run("worker", "tasks:within.app", "--queues", "a, b", "--burst", entry=entry)
    assert done.returncode == 0
    statuses = [(await app.get_job(job)).status for job in jobs if job]
    assert statuses == [JobStatus.Complete, JobStatus.Complete, JobStatus.Queued]


@pytest.mark.parametrize(
    ("arguments", "concurrency"),
    [(["tasks:app"], 10), (["tasks:own"], 7), (["tasks:own", "--concurrency", "3"], 3)],
)
def test_the_command_line_beats_the_app_which_beats_the_default(
    project: Project, app: Werk, arguments: list[str], concurrency: int
) -> None:
    done = project.run("worker", *arguments, "--burst")
    assert f"runs up to {concurrency} jobs at once from default" in done.stderr


def test_the_log_is_as_asked_for(project: Project, app: Werk) -> None:
    done = project.run("worker", "tasks:app", "--burst", "--log-format", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["info", "info"]
    assert project.run("worker", "tasks:app", "--burst", "--log-level", "error").stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopped_worker_lets_its_job_end(project: Project, app: Werk, number: signal.Signals) -> None:
    job = await app.enqueue("tasks.gated", project.gate)
    assert job is not None
    with project.start("worker", "tasks:app") as worker:
        until(project.started)
        worker.send(number)
        worker.wait_for(f"stops ({number.name}); 1 running jobs get 30 s to end")
        project.open_gate()
        assert worker.status() == 0
    ended = await app.get_job(job)
    assert (ended.status, ended.result) == (JobStatus.Complete, "go")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_does_not_end_in_time_is_handed_back(
    project: Project, app: Werk, query: Any, number: signal.Signals
) -> None:
    job = await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    assert job is not None
    with project.start("worker", "tasks:app", "--shutdown-timeout", "0.1") as worker:
        until(project.started)
        worker.send(number)
        assert worker.status() == 0
    assert (await app.get_job(job)).status == JobStatus.Queued
    assert query("select attempt from ready") == [(1,)]


async def test_a_second_signal_cuts_short(project: Project, app: Werk) -> None:
    job = await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    assert job is not None
    with project.start("worker", "tasks:app", "--shutdown-timeout", "3600") as worker:
        until(project.started)
        worker.send(signal.SIGINT)
        worker.wait_for("stops (SIGINT)")
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
    assert (await app.get_job(job)).status == JobStatus.Queued


@pytest.mark.parametrize("function", ["tasks.gated", "tasks.stuck_in_asyncio"])
async def test_a_stuck_thread_does_not_keep_the_process(project: Project, app: Werk, function: str) -> None:
    job = await app.enqueue(function, project.gate)
    assert job is not None
    with project.start("worker", "tasks:app", "--shutdown-timeout", "0.1") as worker:
        until(project.started)
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
        assert "this process ends without waiting for threads that have not returned" in worker.text
    assert (await app.get_job(job)).status == JobStatus.Queued


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_before_there_is_a_worker(project: Project, number: signal.Signals) -> None:
    (project.folder / "slow.py").write_text("import os, time\nos.write(1, b'importing\\n')\ntime.sleep(3600)\n")
    with project.start("worker", "slow:app") as worker:
        worker.wait_for("importing")
        worker.send(number)
        assert worker.status() == 0
        assert worker.text == "importing\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", [1, 2])
def test_stopped_while_the_app_starts(project: Project, app: Werk, number: signal.Signals, processes: int) -> None:
    with (project.folder / "tasks.py").open("a") as tasks:
        tasks.write(STARTING)
    with project.start("worker", "tasks:app", "--processes", str(processes)) as worker:
        worker.wait_for("preparing\n", times=processes)
        worker.send(number)
        assert worker.status() == 0
        assert worker.text == "preparing\n" * processes


@pytest.mark.parametrize("function", ["write_and_block", "write_and_block_in_a_task"])
@pytest.mark.parametrize("processes", [1, 2])
async def test_a_second_signal_ends_what_blocks_the_event_loop(
    project: Project, app: Werk, query: Any, function: str, processes: int
) -> None:
    for _ in range(3):
        await app.enqueue(f"tests.handlers.{function}", *project.sleeper)
    arguments = ("worker", "tasks:app", "--processes", str(processes), "--shutdown-timeout", "3600")
    with project.start(*arguments) as worker:
        until(project.started)
        worker.send(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):  # nobody could hear it
            worker.process.wait(1.5 * DEAF)
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
        assert "failed" not in worker.text
    assert query("select attempt from ready") == [(1,)] * 3


def test_migrate(project: Project, own_dsn: str) -> None:
    where = ("--dsn", own_dsn, "--schema", "of_mine")
    planned = project.run("migrate", *where, "--plan")
    assert planned.stdout.startswith("-- 0001_engine\n")
    assert 'create table "of_mine".job (' in planned.stdout
    assert project.run("migrate", *where, "--plan").stdout == planned.stdout  # nothing was changed
    assert project.run("migrate", *where).stdout.splitlines()[0] == "ran 0001_engine"
    done = project.run("migrate", *where)
    newest = planned.stdout.count("-- serves code from version")
    assert done.stdout == f"nothing to do, the schema 'of_mine' is at version {newest}\n"
    assert project.run("migrate", *where, "--plan").stdout == done.stdout


def test_migrate_the_schema_of_an_app(project: Project, app: Werk) -> None:
    done = project.run("migrate", "tasks:app", entry=SCRIPT)
    assert done.stdout.startswith(f"nothing to do, the schema '{app.config.schema}' is at version ")
    assert done.returncode == 0
    planned = project.run("migrate", "tasks:app", "--schema", "another", "--plan")
    assert 'create table "another".job (' in planned.stdout


@pytest.mark.parametrize(
    "setting", [each for each in fields(WerkConfig) if each.metadata["choices"]], ids=attrgetter("name")
)
def test_the_words_of_a_choice_are_those_of_the_setting(setting: Field[Any]) -> None:
    (option,) = (each for each in worker.params if each.name == setting.name)
    for word in map(str, setting.metadata["choices"]):
        assert option.type.convert(word, option, None) == word
        assert word == word.lower()
