"""`werk schedules`, in a terminal, through a pipe, and for programs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.shell import CLEAN, UNNAMED, Shell

if TYPE_CHECKING:
    from pathlib import Path


def test_a_schedule_from_its_making_to_its_end(shell: Shell) -> None:
    assert shell.says("schedules", "list") == "there are no schedules\n"
    made = shell.says("schedules", "create", "m.f", '{"a": 1}', "--cron", "@daily", "--tz", "Asia/Tokyo", "--name", "s")
    assert made.startswith("made s; its first job is due at ")
    assert shell.says("schedules", "pause", "s") == "paused s\n"
    assert shell.says("schedules", "pause", "s") == "s was paused already\n"
    assert shell.says("schedules", "resume", "s").startswith("resumed s; next at ")
    assert shell.says("schedules", "trigger", "s") == "enqueued job 1\n"
    (row,) = json.loads(shell.says("schedules", "list", "--json"))
    assert {name: row[name] for name in ("name", "cron", "tz", "function", "kwargs", "is_paused", "last_job_id")} == {
        "name": "s", "cron": "@daily", "tz": "Asia/Tokyo", "function": "m.f", "kwargs": {"a": 1}, "is_paused": False,
        "last_job_id": 1,
    }  # fmt: skip
    head, line = shell.says("schedules", "list").splitlines()
    assert head.split("\t")[:3] == ["name", "when", "function"]
    assert line.split("\t")[:3] == ["s", "@daily Asia/Tokyo", "m.f"]
    assert shell.says("schedules", "delete", "s") == "deleted s\n"
    assert "there is no schedule 's'" in shell.refuses("schedules", "delete", "s")
    assert "there is no schedule 's'" in shell.refuses("schedules", "pause", "s")


def test_a_schedule_that_cannot_be_read_is_listed_and_steered(shell: Shell, own_dsn: str) -> None:
    """A DSN alone does not know how the app's jobs are written."""
    for name in "pq":
        shell.says("schedules", "create", "m.f", "--interval", "60", "--name", name)
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        connection.execute("update pgwerk.schedule set payload = '\"pickle:\"' where name = 'p'")
        connection.execute("update pgwerk.schedule set options = '{\"retry\": {\"no\": 1}}' where name = 'q'")
    _, first, second = shell.says("schedules", "list").splitlines()
    assert first.split("\t")[:4] == ["p", "every 0:01:00", "m.f", "default"]
    assert second.split("\t")[3].startswith("the options of the schedule 'q' cannot be read: ")
    unread, _ = json.loads(shell.says("schedules", "list", "--json"))
    assert unread["args"] == unread["kwargs"]
    assert unread["args"].startswith("the payload of the schedule 'p' cannot be read: ")
    assert shell.says("schedules", "pause", "p") == "paused p\n"
    assert shell.says("schedules", "pause", "p") == "p was paused already\n"
    assert shell.says("schedules", "resume", "p").startswith("resumed p; next at ")
    assert "the payload of the schedule 'p' cannot be read: " in shell.refuses("schedules", "trigger", "p")
    assert shell.says("schedules", "delete", "p") == "deleted p\n"


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
def test_what_cannot_be_made_is_refused_in_a_sentence(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    assert words in shell.refuses("schedules", "create", *arguments)


def test_a_preview_shows_the_changes_of_the_clocks(shell: Shell) -> None:
    ran = shell.says("schedules", "preview", "30 2 * * *", "--tz", "Europe/Paris", "--from", "2027-03-27", "-n", "3")
    assert ran.splitlines()[1:] == [
        "2027-03-27 02:30:00+01:00\t2027-03-27 01:30:00+00:00\t",
        "2027-03-28 03:00:00+02:00\t2027-03-28 01:00:00+00:00\tclocks have gone forward by 1:00:00",
        "2027-03-29 02:30:00+02:00\t2027-03-29 00:30:00+00:00\t",
    ]
    assert "tz must be the name of a time zone" in shell.refuses("schedules", "preview", "@daily", "--tz", "Mars")


@pytest.mark.parametrize("start", ["0001-01-01", "1899-12-31", "9999-12-30"])
def test_a_preview_starts_within_the_calendar(shell: Shell, start: str) -> None:
    said = shell.refuses("schedules", "preview", "@daily", "--from", start)
    assert said == f"error: --from must lie in the years 1900 to 9998, got {start}\n"


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "Pacific/Honolulu"])
@pytest.mark.parametrize(("expression", "least", "most"), [("@daily", 366, 369), ("*/7 * 31 12 *", 200, 440)])
def test_a_preview_ends_with_the_calendar(shell: Shell, zone: str, expression: str, least: int, most: int) -> None:
    ran = shell.says("schedules", "preview", expression, "--tz", zone, "--from", "9998-12-29", "-n", "1000")
    assert least <= ran.count("\n") <= most
    assert "9999-12-3" in ran.splitlines()[-1]


@pytest.mark.parametrize("columns", [80, 160])
def test_a_terminal_gets_a_table_of_its_width(columns: int) -> None:
    screen, terminal = pty.openpty()
    preview = ["schedules", "preview", "0 12 * * *", "-n", "2", "--tz", "Asia/Tokyo"]
    subprocess.run(
        [sys.executable, "-m", "pgwerk", *preview], stdout=terminal, timeout=60, check=True,
        env=CLEAN | {"COLUMNS": str(columns), "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    text = os.read(screen, 65536).decode()
    os.close(screen)
    assert "local time" in text
    assert text.count(" 12:00:00+09:00") == text.count(" 03:00:00+00:00") == 2
    assert "──" in text
    assert max(len(line) for line in text.splitlines()) <= columns + len("\x1b[1m" * 10)


def test_the_app_is_found_wherever_it_is_named(shell: Shell, own_dsn: str, tmp_path: Path) -> None:
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
        shell.says("schedules", "create", "m.f", "--cron", "@daily", "--name", str(number), *arguments, **environment)
    assert len(json.loads(shell.says("schedules", "list", "-a", "tasks:app", "--json"))) == len(ways)
    project.write_text('[tool.pgwerk]\napps = "tasks:app"\n')
    assert "got apps = 'tasks:app'" in shell.refuses("schedules", "list")
    project.write_text("[tool.pgwerk\n")
    assert "cannot be read" in shell.refuses("schedules", "list")
