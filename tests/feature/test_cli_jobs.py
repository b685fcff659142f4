"""What the command line does with jobs."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgwerk import EnqueueParams, TypedJSONSerializer, Werk
from pgwerk.cli.exits import Exit
from tests.faults.test_command_line import COMMANDS
from tests.shell import CLEAN, UNNAMED, Shell
from tests.workplace import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def run(shell: Shell, queue: str = "default") -> None:
    """Every job that can run now."""
    said_by_worker = shell.run("worker", "tests.workplace:app", "--burst", "--queues", queue)
    assert said_by_worker.returncode == 0, said_by_worker.stderr


def listed(shell: Shell, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shell.says("jobs", "--json", *options))
    return found


def test_from_the_shell_to_the_result(shell: Shell) -> None:
    assert shell.says("jobs") == "there are no such jobs\n"
    assert shell.says("enqueue", "tests.handlers.echo", '{"value": [1, "é"]}', "--priority", "5") == "enqueued job 1\n"
    assert shell.says("enqueue", "tests.handlers.square", "[7]", "--queue", "q", "--key", "k") == "enqueued job 2\n"
    assert (
        shell.says("enqueue", "tests.handlers.square", "[8]", "--key", "k")
        == "nothing was done: the key 'k' is taken\n"
    )
    assert shell.says("why", "1").splitlines() == [
        "it is the next of its queue", "no live worker takes jobs from its queue 'default'"
    ]  # fmt: skip
    run(shell)
    (second, first) = listed(shell)
    assert (first["status"], first["result"], second["status"]) == ("complete", [1, "é"], "queued")
    head, *lines = shell.says("jobs", "--status", "queued").splitlines()
    assert head.split("\t") == ["id", "status", "since", "function", "queue", "attempts", "error"]
    ((number, status, _, *what),) = [line.split("\t") for line in lines]
    assert (number, status, *what) == ("2", "queued", "tests.handlers.square", "q", "0 of 1", "-")
    shown = shell.says("job", "1")
    assert "tests.handlers.echo" in shown
    assert "it has ended: complete at " in shown
    assert "\nattempt 1\n" in shown
    (execution,) = json.loads(shell.says("job", "1", "--json"))["executions"]
    assert (execution["attempt"], execution["status"]) == (1, "complete")
    assert json.loads(shell.says("why", "2", "--json"))[0] == "it is the next of its queue"


def test_waiting_for_a_result(shell: Shell, own_dsn: str, tmp_path: Path) -> None:
    shell.says("migrate")
    worker = subprocess.Popen(
        [sys.executable, "-m", "pgwerk", "worker", "tests.workplace:app"], cwd=ROOT, stderr=subprocess.DEVNULL,
        env=CLEAN | {"PGWERK_DSN": own_dsn, "PGWERK_RESULT_TTL": "0", "PGWERK_SWEEP_INTERVAL": "0.1"},
    )  # fmt: skip
    try:
        assert shell.says("enqueue", "tests.handlers.square", "[7]", "--wait") == "49\n"
        assert "on purpose" in shell.refuses("enqueue", "tests.handlers.fail", "--wait")
    finally:
        worker.terminate()
        assert worker.wait(40) == 0


def test_jobs_are_steered_by_their_ids(shell: Shell) -> None:
    for _ in range(2):
        shell.says("enqueue", "tests.handlers.fail")
    partly = shell.run("cancel", "1", "9")
    words = "cancel: 1 of 2 jobs; the others are in another state, or gone: 9\n"
    assert (partly.returncode, partly.stdout) == (1, words)
    run(shell)
    assert shell.says("retry", "1", "2") == "retry: 2 of 2 jobs\n"
    assert shell.run("abort", "1").returncode == 1
    assert shell.says("delete", "1", "2") == "delete: 2 of 2 jobs\n"
    assert listed(shell) == []
    assert "there is no job 1" in shell.refuses("job", "1")


def test_jobs_are_steered_by_filters_and_a_question(shell: Shell) -> None:
    for number in range(3):
        shell.says("enqueue", "tests.handlers.fail", "--queue", "default" if number else "other")
    asked = shell.run("cancel", "--queue", "other")
    assert (asked.returncode, asked.stdout) == (1, "cancel 1 job? [y/N]: ")
    assert shell.says("cancel", "--queue", "other", "--yes") == "cancel: 1 job\n"
    run(shell)
    assert shell.says("retry", "--status", "failed", "--search", "purpose", "-y") == "retry: 2 jobs\n"
    assert shell.says("retry", "--status", "failed", "-y") == "retry: 0 jobs\n"
    assert shell.says("delete", "--queue", "default", "-y") == "delete: 2 jobs\n"
    asked = shell.run("purge", "aborted", "failed", "--older-than", "0")
    which = "delete 1 job that ended at least 0 days ago as aborted or failed? [y/N]: "
    assert (asked.returncode, asked.stdout, asked.stderr) == (1, which, "nothing was done\n")
    assert shell.says("purge", "aborted", "--older-than", "1") == "deleted 0 jobs\n"
    assert shell.says("purge", "aborted", "--older-than", "0", "-y") == "deleted 1 job\n"
    assert listed(shell) == []


def test_a_terminal_sees_how_far_it_is(shell: Shell) -> None:
    async def enqueue() -> None:
        async with Werk(shell.dsn) as app:
            await app.enqueue_many([EnqueueParams("tests.handlers.noop") for _ in range(1200)])

    asyncio.run(enqueue())
    screen, terminal = pty.openpty()
    ran = subprocess.run(
        [sys.executable, "-m", "pgwerk", "cancel", "--queue", "default", "-y"], stdout=subprocess.PIPE, stderr=terminal,
        timeout=60, check=True, text=True, env=CLEAN | {"PGWERK_DSN": shell.dsn, "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    seen = os.read(screen, 65536).decode()
    os.close(screen)
    assert ran.stdout == "cancel: 1200 jobs\n"
    assert re.findall(r" +(\d+)%", seen) == ["0", "50", "100"]


def test_ctrl_c_at_a_question_is_heard_the_first_time(shell: Shell) -> None:
    shell.says("enqueue", "tests.handlers.noop")
    screen, terminal = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-m", "pgwerk", "cancel", "--queue", "default"], cwd=ROOT, text=True, stdin=terminal,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN | {"PGWERK_DSN": shell.dsn, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert asking.stdout is not None
    assert asking.stdout.read(len("cancel 1 job? [y/N]: ")) == "cancel 1 job? [y/N]: "
    asking.send_signal(signal.SIGINT)
    said, complained = asking.communicate(timeout=20)
    os.close(terminal)
    os.close(screen)
    assert (asking.returncode, said, complained.strip()) == (130, "", "")
    assert [each["status"] for each in listed(shell)] == ["queued"]


def closing(
    stream: str, shell: Shell, arguments: str, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m pgwerk {arguments} {stream}', sys.executable],
        stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        env=CLEAN | {"PGWERK_DSN": shell.dsn},
    )  # fmt: skip


def test_a_closed_stdin_answers_no_question(shell: Shell) -> None:
    shell.says("enqueue", "tests.handlers.noop")
    ran = closing("0<&-", shell, "cancel --queue default")
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "cancel 1 job? [y/N]: ", "nothing was done\n")


def test_a_closed_stdin_is_no_terminal(shell: Shell) -> None:
    screen, terminal = pty.openpty()
    ran = closing("0<&-", shell, "top", terminal)
    os.close(terminal)
    os.close(screen)
    assert (ran.returncode, ran.stderr.partition(",")[0]) == (1, "error: the live screen needs a terminal")


def test_a_closed_stderr_is_no_terminal(shell: Shell) -> None:
    shell.says("enqueue", "tests.handlers.noop")
    ran = closing("2>&-", shell, "cancel --queue default --yes")
    assert (ran.returncode, ran.stdout) == (0, "cancel: 1 job\n")


def test_a_time_beyond_the_calendar_of_the_local_clock_is_shown_as_it_is(shell: Shell) -> None:
    async def enqueue() -> None:
        async with Werk(shell.dsn) as app:
            await app.enqueue("tests.handlers.noop", _at=datetime.max.replace(tzinfo=UTC))

    asyncio.run(enqueue())
    assert "9999-12-31 23:59:59+00:00" in shell.shows("job", "1", TZ="Asia/Tokyo")


def test_ctrl_c_ends_a_wait_without_a_trace(shell: Shell) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-m", "pgwerk", "enqueue", "tests.handlers.noop", "--wait"], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN | {"PGWERK_DSN": shell.dsn},
    )  # fmt: skip
    while not listed(shell):
        assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    said, complained = waiting.communicate(timeout=20)
    assert (waiting.returncode, said, complained.strip()) == (130, "", "job 1 goes on")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("retry",), "say which jobs to retry: their ids, or options that find them"),
        (("cancel", "1", "--queue", "q"), "say which jobs to cancel"),
        (("jobs", "--meta", "[]"), "--meta must be a JSON object, got '[]'"),
        (("jobs", "--meta", "{"), "--meta must be a JSON object, got '{'"),
        (("enqueue", "f"), "func"),
        (("enqueue", "m.f", "x"), "arguments are a JSON object or list, got 'x'"),
        (("enqueue", "m.f", "--retry", "0"), "--retry counts the first attempt too"),
        (("why", "1"), "there is no job 1"),
        (("delete", "--search", "", "--yes"), "--search must be a text, got none at all"),
        (("purge", "failed", "--older-than", "1", "-a", "host=a", "--dsn", "host=b"), "the database is said twice"),
        (("migrate", "host=a", "--dsn", "host=b"), "the database is said twice"),
        (("migrate", "tasks:app", "-a", "other:app"), "which app it is about is said twice"),
        (("jobs", "-a", ""), "an app is named module:attribute, like tasks:app, got ''"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    assert words in shell.refuses(*arguments)


def completed(shell: Shell, *words: str) -> set[str]:
    """What a bash offers behind these words."""
    line = " ".join(["werk", *words])
    said = shell.says(_WERK_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words)), PGWERK_DSN=shell.dsn)
    return {each.partition(",")[2] for each in said.splitlines() if each}


def test_the_tab_key_knows_states_and_queues(shell: Shell) -> None:
    assert completed(shell, "jobs", "--status", "a") == {"active", "aborting", "aborted"}
    assert {"doctor", "check", "job", "jobs"} <= completed(shell, "")
    assert completed(shell, "jobs", "--queue", "") == set()
    shell.says("migrate")
    with psycopg.connect(shell.dsn, autocommit=True) as connection:
        connection.execute(
            "insert into pgwerk.worker (name, kind, queues, concurrency, patience)"
            " values ('w', 'w', '{mail,maps,x}', 1, 99)"
        )
    assert completed(shell, "jobs", "--queue", "ma") == {"mail", "maps"}
    assert completed(shell, "jobs", "--dsn", "postgresql://nobody@127.0.0.1:1/nothing", "--queue", "ma") == set()


def test_exit_codes_are_those_that_are_written_down(shell: Shell) -> None:
    assert shell.run("jobs").returncode == Exit.Fine
    assert shell.run("why", "1").returncode == Exit.No
    for wrong in (("nonsense",), ("jobs", "--nonsense"), ("why", "x")):
        assert shell.run(*wrong).returncode == Exit.Usage


def test_a_handlers_arguments_are_its_own_whatever_their_names(shell: Shell) -> None:
    said = shell.says("enqueue", "tests.handlers.echo", '{"value": 1, "timeout": 5, "_queue": "x"}')
    assert said == "enqueued job 1\n"
    (job,) = listed(shell)
    assert (job["queue"], job["payload"]["kwargs"]) == ("default", {"value": 1, "timeout": 5, "_queue": "x"})


def test_to_look_at_a_database_does_not_change_it(own_dsn: str, tmp_path: Path) -> None:
    bare = Shell(tmp_path, own_dsn)
    for command in (("info",), ("jobs",), ("queues", "pause", "q"), ("retry", "1"), ("schedules", "list")):
        assert "has no schema 'pgwerk'" in bare.refuses(*command)
    with psycopg.connect(own_dsn) as connection:
        assert connection.execute("select to_regnamespace('pgwerk')").fetchone() == (None,)
    assert bare.says("enqueue", "m.f") == "enqueued job 1\n"


def test_migrate_is_for_the_database_that_other_commands_are_for(shell: Shell) -> None:
    (shell.folder / "pyproject.toml").write_text(f"[tool.pgwerk]\ndsn = {json.dumps(shell.dsn)}\nschema = 'mine'\n")
    assert shell.says("migrate", **UNNAMED).startswith("ran 0001_engine\n")
    assert shell.says("jobs", **UNNAMED) == "there are no such jobs\n"


OWN_CONNECTIONS = """
from psycopg_pool import AsyncConnectionPool
from pgwerk import Werk

async def nowhere():
    raise OSError("there is no way to the app's own database")

app = Werk({})
"""


@pytest.mark.parametrize("own", ["connect=nowhere", "pool=AsyncConnectionPool('host=/nowhere', open=False)"])
def test_a_dsn_that_is_said_beats_the_apps_own_connections(shell: Shell, own: str) -> None:
    (shell.folder / "tasks.py").write_text(OWN_CONNECTIONS.format(own))
    for command in (("enqueue", "tests.handlers.noop", "-a", "tasks:app"), ("check", "-a", "tasks:app"),
                    ("migrate", "tasks:app"), ("worker", "tasks:app", "--burst")):  # fmt: skip
        assert shell.run(*command, **UNNAMED).returncode == 1
        ran = shell.run(*command, "--dsn", shell.dsn, **UNNAMED)
        assert ran.returncode == 0, ran.stderr
    assert [job["status"] for job in listed(shell)] == ["complete"]


def test_what_the_project_says_comes_below_the_environment_and_the_program(shell: Shell) -> None:
    (shell.folder / "tasks.py").write_text("from pgwerk import Werk\napp = Werk()\nown = Werk(schema='own')\n")
    (shell.folder / "pyproject.toml").write_text(
        f"[tool.pgwerk]\napp = 'tasks:app'\ndsn = {json.dumps(shell.dsn)}\nschema = 'of_project'\n"
    )
    ways: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("jobs",), UNNAMED, "of_project"),
        (("jobs",), {"PGWERK_SCHEMA": "of_environment"}, "of_environment"),
        (("jobs", "-a", "tasks:own"), {"PGWERK_SCHEMA": "of_environment"}, "own"),
        (("jobs", "-a", "tasks:own", "--schema", "said"), UNNAMED, "said"),
        (("worker", "tasks:app", "--no-auto-migrate"), UNNAMED, "of_project"),
    ]
    for arguments, environment, schema in ways:
        assert f"has no schema '{schema}'" in shell.refuses(*arguments, **environment)


def test_no_password_is_said(shell: Shell) -> None:
    for words in (("worker", "postgresql://app:secret@db/x"), ("jobs", "-a", "postgres:/app:secret@db"),
                  ("jobs", "--dsn", "host=db password='secret"), ("jobs", "--dsn", "host=db secret")):  # fmt: skip
        ran = shell.run(*words)
        assert ran.returncode == 1
        assert "secret" not in ran.stdout + ran.stderr, words


def test_what_json_has_no_word_for_is_said_as_well_as_it_can_be(shell: Shell) -> None:
    async def enqueue() -> None:
        async with Werk(shell.dsn, serializer=TypedJSONSerializer()) as app:
            await app.enqueue("tests.handlers.echo", {1: "a"})

    asyncio.run(enqueue())
    (shell.folder / "tasks.py").write_text(
        f"from pgwerk import TypedJSONSerializer, Werk\napp = Werk({shell.dsn!r}, serializer=TypedJSONSerializer())\n"
    )
    assert json.loads(shell.says("job", "1", "--json", "-a", "tasks:app"))["payload"]["args"] == [{"1": "a"}]


def test_what_was_done_is_said_to_programs_too(shell: Shell) -> None:
    def told(*arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(shell.says(*arguments, "--json"))
        return found

    assert told("migrate")["ran"] == told("migrate", "--plan")["plan"] == []
    assert told("migrate", "--schema", "other", "--plan")["plan"][0]["name"] == "0001_engine"
    assert told("migrate", "--schema", "other")["ran"][0] == "0001_engine"
    assert told("enqueue", "tests.handlers.fail", "--key", "k") == {"id": 1}
    assert told("enqueue", "tests.handlers.fail", "--key", "k") == {"id": None}
    assert told("cancel", "1") == {"jobs": 1, "ids": [1]}
    assert told("retry", "--status", "aborted", "-y") == {"jobs": 1}
    assert told("queues", "pause", "default") == {"queue": "default", "paused": True}
    assert told("queues", "resume", "default") == {"queue": "default", "resumed": True}
    assert told("schedules", "create", "tests.handlers.noop", "--interval", "60")["name"] == "tests.handlers.noop"
    assert told("schedules", "pause", "tests.handlers.noop")["paused"] is True
    assert told("schedules", "trigger", "tests.handlers.noop") == {"id": 3}
    assert told("delete", "--queue", "default", "-y") == {"jobs": 2}
    assert told("purge", "failed", "--older-than", "0", "-y") == {"jobs": 0}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_speaks_to_programs(path: tuple[str, ...]) -> None:
    assert "--json" in {option for each in COMMANDS[path].params for option in each.opts}


ODD = "\x1b[2J\x1b]0;taken over\a"


def test_a_terminal_obeys_nothing_that_a_job_says(shell: Shell) -> None:
    shell.says("enqueue", "tests.handlers.fail", json.dumps([ODD]), "--queue", "odd", "--key", ODD)
    run(shell, "odd")
    commands = [("jobs",), ("job", "1"), ("why", "1"), ("info",), ("delete", "9", "1")]
    said = [shell.run(*command) for command in commands]
    assert not re.search(r"[\x1b\a]", "".join(each.stdout + each.stderr for each in said))
    assert r"\x1b[2J\x1b]0;taken over\x07" in said[0].stdout


def test_a_time_is_read_as_it_is_printed(shell: Shell) -> None:
    shell.says("enqueue", "tests.handlers.noop")
    since = listed(shell)[0]["enqueued_at"]
    assert len(listed(shell, "--enqueued-from", since)) == 1
    assert listed(shell, "--enqueued-until", since.partition(".")[0] + "+00:00") == []
    assert shell.run("jobs", "--enqueued-from", "soon").returncode == 2


def test_a_full_disk_is_said_in_a_sentence(shell: Shell) -> None:
    shell.says("migrate")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ran = subprocess.run(
            [sys.executable, "-m", "pgwerk", "jobs"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=CLEAN | {"PGWERK_DSN": shell.dsn},
        )  # fmt: skip
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
    assert "error: [Errno 28] No space left on device" in ran.stderr


def test_a_table_fits_into_a_narrow_terminal(shell: Shell) -> None:
    shell.says("enqueue", "tests.handlers.fail", json.dumps(["what went wrong, in many words " * 4]))
    run(shell)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shell.shows("jobs", COLUMNS="80")).split("\r\n")
    (line,) = [line for line in lines if "failed" in line]
    assert re.search(r"^ ?1 +failed +\d\d:\d\d:\d\d +tests\.\S+ +default +1 of 1 +ValueError: what\S* .*…", line)
