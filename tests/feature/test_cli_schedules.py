"""`werk schedules`, in a terminal, through a pipe, and for programs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.workplace import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Werk = Callable[..., subprocess.CompletedProcess[str]]

UNNAMED = {"LANG": "C.UTF-8"}  # an environment that names no app
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PGWERK_")}


@pytest.fixture
def werk(own_dsn: str, tmp_path: Path) -> Werk:
    """On the database of the test, unless the environment is said to be another one."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pgwerk", *arguments], cwd=tmp_path, text=True, capture_output=True, timeout=60,
            env=CLEAN | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | (environment or {"PGWERK_DSN": own_dsn}),
        )  # fmt: skip

    return run


def said(ran: subprocess.CompletedProcess[str]) -> str:
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def refused(ran: subprocess.CompletedProcess[str]) -> str:
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    return ran.stderr


def test_a_schedule_from_its_making_to_its_end(werk: Werk) -> None:
    assert said(werk("schedules", "list")) == "there are no schedules\n"
    made = said(werk("schedules", "create", "m.f", '{"a": 1}', "--cron", "@daily", "--tz", "Asia/Tokyo", "--name", "s"))
    assert made.startswith("made s; its first job is due at ")
    assert said(werk("schedules", "pause", "s")) == "paused s\n"
    assert said(werk("schedules", "pause", "s")) == "s was paused already\n"
    assert said(werk("schedules", "resume", "s")).startswith("resumed s; next at ")
    assert said(werk("schedules", "trigger", "s")) == "enqueued job 1\n"
    (row,) = json.loads(said(werk("schedules", "list", "--json")))
    assert {name: row[name] for name in ("name", "when", "tz", "function", "paused", "last job")} == {
        "name": "s", "when": "@daily", "tz": "Asia/Tokyo", "function": "m.f", "paused": False, "last job": 1,
    }  # fmt: skip
    head, line = said(werk("schedules", "list")).splitlines()
    assert head.split("\t")[:4] == ["name", "when", "tz", "function"]
    assert line.split("\t")[:4] == ["s", "@daily", "Asia/Tokyo", "m.f"]
    assert said(werk("schedules", "delete", "s")) == "deleted s\n"
    assert "there is no schedule 's'" in refused(werk("schedules", "delete", "s"))
    assert "there is no schedule 's'" in refused(werk("schedules", "pause", "s"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("m.f", "--cron", "61 * * * *"), "the minute of cron is not valid, got '61'"),
        (("m.f",), "by cron or by interval"),
        (("m.f", "[1", "--cron", "@daily"), "arguments are a JSON object or list, got '[1'"),
        (("m.f", "5", "--cron", "@daily"), "arguments are a JSON object or list, got '5'"),
        (("f", "--cron", "@daily"), "func"),
        (("m.f", "--interval", "0"), "interval must be from 1"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(werk: Werk, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(werk("schedules", "create", *arguments))


def test_a_preview_shows_the_changes_of_the_clocks(werk: Werk) -> None:
    ran = werk("schedules", "preview", "30 2 * * *", "--tz", "Europe/Paris", "--from", "2027-03-27", "-n", "3")
    assert said(ran).splitlines()[1:] == [
        "2027-03-27 02:30:00+01:00\t2027-03-27 01:30:00+00:00\t",
        "2027-03-28 03:00:00+02:00\t2027-03-28 01:00:00+00:00\tclocks have gone forward by 1:00:00",
        "2027-03-29 02:30:00+02:00\t2027-03-29 00:30:00+00:00\t",
    ]
    assert "tz must be the name of a time zone" in refused(werk("schedules", "preview", "@daily", "--tz", "Mars"))


@pytest.mark.parametrize("columns", [80, 160])
def test_a_terminal_gets_a_table_of_its_width(columns: int) -> None:
    screen, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "pgwerk", "schedules", "preview", "0 12 * * *", "-n", "2"], stdout=terminal, timeout=60,
        check=True, env=CLEAN | {"COLUMNS": str(columns), "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    text = os.read(screen, 65536).decode()
    os.close(screen)
    assert "local time" in text
    assert "──" in text
    assert max(len(line) for line in text.splitlines()) <= columns + len("\x1b[1m" * 10)


def test_the_app_is_found_wherever_it_is_named(werk: Werk, own_dsn: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(f"from pgwerk import Werk\napp = Werk({own_dsn!r}, schema='mine')\n")
    project = tmp_path / "pyproject.toml"
    ways: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("-a", "tasks:app"), {}, ""),
        (("-a", own_dsn, "--schema", "mine"), {}, ""),
        (("--dsn", own_dsn, "--schema", "mine"), {"PGWERK_APP": "nowhere:app"}, ""),
        ((), {"PGWERK_APP": "tasks:app"}, ""),
        ((), {"PGWERK_DSN": own_dsn, "PGWERK_SCHEMA": "mine"}, 'app = "nowhere:app"'),
        ((), UNNAMED, 'app = "tasks:app"'),
        ((), UNNAMED, f"dsn = {json.dumps(own_dsn)}\nschema = 'mine'"),
    ]
    for number, (arguments, environment, text) in enumerate(ways):
        project.write_text(f"[tool.pgwerk]\n{text}\n")
        said(werk("schedules", "create", "m.f", "--cron", "@daily", "--name", str(number), *arguments, **environment))
    assert len(json.loads(said(werk("schedules", "list", "-a", "tasks:app", "--json")))) == len(ways)
    project.write_text('[tool.pgwerk]\napps = "tasks:app"\n')
    assert "got apps = 'tasks:app'" in refused(werk("schedules", "list"))
    project.write_text("[tool.pgwerk\n")
    assert "cannot be read" in refused(werk("schedules", "list"))
