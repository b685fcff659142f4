"""The demo as a user has it: from an empty folder to rows that can be looked at."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.feature.test_cli import MODULE, ROOT, SCRIPT, until

if TYPE_CHECKING:
    from collections.abc import Iterator


def mentioning(folder: Path) -> list[str]:
    """Processes that have anything to do with this folder."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid,stat,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]


def shell(command: str, folder: Path, text: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0].partition("\n")[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def shown(folder: Path) -> str:
    """What a demo in a new folder says."""
    environment = {**os.environ, "PGWERK_DSN": "postgresql://elsewhere", "PGWERK_SCHEMA": "another"}
    done = subprocess.run(
        [*SCRIPT, "demo"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: not mentioning(folder))
    return done.stdout


def test_all_jobs_are_run_and_counted(shown: str, folder: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "test", "tests"}
    files = [path for path in library.rglob("*.py") if not skipped & set(path.relative_to(library).parts)]
    contents = [path.read_bytes() for path in files]
    size, lines = sum(map(len, contents)), sum(content.count(b"\n") for content in contents)
    assert f"{size:,} bytes and {lines:,} lines in {len(files)} of {len(files)} files" in shown
    assert f"{len(files)} complete, 0 failed, {-(-len(files) // 40)} retries" in shown
    assert f"its data is kept in {folder}/.pgwerk/demo\n" in shown
    assert not {"\r", "\x1b"} & set(shown)


def test_the_printed_way_to_the_rows_works(shown: str, folder: Path) -> None:
    command = between(shown, "to look at the rows", "\n\n")
    rows = shell(command, folder).splitlines()
    assert len(rows) == 10
    assert all(" complete " in row and "sha256" in row for row in rows)
    until(lambda: not mentioning(folder))


def test_the_printed_way_to_psql_works(shown: str, folder: Path) -> None:
    command = between(shown, "or in psql", "\n\n")
    said = shell(command, folder, "select status, attempts, count(*) from pgwerk.jobs group by 1, 2 order by 2;")
    assert "complete |        1 |" in said
    assert "complete |        2 |" in said
    until(lambda: not mentioning(folder))


def test_the_printed_way_to_go_on_works(shown: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(between(shown, "to go on", "\nand run"))
    with subprocess.Popen([*SCRIPT, "worker", "tasks:app"], cwd=tmp_path, stderr=subprocess.DEVNULL) as worker:
        assert shell(f"{sys.executable} tasks.py", tmp_path) == "Hello, world!\n"
        worker.terminate()
        assert worker.wait(20) == 0
    until(lambda: not mentioning(tmp_path))


def test_a_schema_in_an_embedded_server_can_be_migrated(shown: str, folder: Path) -> None:
    migrate = f"{sys.executable} -m pgwerk migrate --dsn embedded:.pgwerk/demo"
    assert shell(migrate, folder).startswith("nothing to do, the schema 'pgwerk' is at version ")
    assert shell(f"{migrate} --schema new", folder).startswith("ran 0001_")
    until(lambda: not mentioning(folder))


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def until_said(ours: int, text: str) -> str:
    said = ""
    while text not in said:
        said += os.read(ours, 1000).decode()
    return said


@pytest.mark.parametrize("moment", ["starting a private Postgres", "starting 2 worker processes", "jobs  ["])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, terminal: tuple[int, int], moment: str, number: signal.Signals) -> None:
    """At a terminal: a Ctrl-C goes to the whole process group."""
    ours, theirs = terminal
    demo = subprocess.Popen([*MODULE, "demo"], cwd=tmp_path, stdout=theirs, stderr=theirs, process_group=0)
    said = until_said(ours, moment)
    os.killpg(demo.pid, number)
    assert demo.wait(20) == 130
    assert "stopped; nothing goes on running" in said + os.read(ours, 10000).decode()
    until(lambda: not mentioning(tmp_path))


@pytest.mark.parametrize("moment", ["starting 2 worker processes", "jobs  ["])
def test_killed(tmp_path: Path, terminal: tuple[int, int], moment: str) -> None:
    ours, theirs = terminal
    demo = subprocess.Popen([*MODULE, "demo"], cwd=tmp_path, stdout=theirs, stderr=theirs, process_group=0)
    until_said(ours, moment)
    demo.kill()
    demo.wait()
    until(lambda: not mentioning(tmp_path))
