"""`werk bench`: figures of one's own server, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from pgwerk.cli import commands
from tests.postgres import rows, wait_until
from tests.workplace import ROOT

if TYPE_CHECKING:
    from tests.shell import Shell

MEASURES = [
    "enqueue, one by one", "enqueue, 1000 at once", "run, 10 at a time", "run, 100 at a time",
    "from enqueue to start, an idle worker, median", "from enqueue to start, an idle worker, 95 %",
]  # fmt: skip


def left(dsn: str) -> bool:
    return bool(rows(dsn, "select from pg_namespace where nspname = 'pgwerk_bench'"))


def test_it_measures_and_leaves_nothing(own_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("pgwerk.cli.bench"), "SECONDS", 0.05)
    runner = CliRunner(env={"PGWERK_DSN": own_dsn, "PGWERK_APP": None})
    ran = runner.invoke(commands, ["bench", "--json"])
    assert (ran.exit_code, ran.stderr) == (0, "")
    figures = json.loads(ran.stdout)
    assert [figure["measure"] for figure in figures] == MEASURES
    assert all(figure["value"] > 0 for figure in figures)
    assert rows(own_dsn, "select nspname from pg_namespace where nspname like 'pgwerk%'") == []
    lines = runner.invoke(commands, ["bench"]).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["measure", *MEASURES]


@pytest.mark.parametrize("moment", ["select from pgwerk_bench.job", "select from pgwerk_bench.worker"])
def test_ctrl_c_leaves_nothing(own_dsn: str, moment: str) -> None:
    """While jobs are enqueued, and while a worker runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pgwerk", "bench", "--dsn", own_dsn], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONWARNINGS": "error"},
    )  # fmt: skip

    def has_come() -> bool:
        try:
            return bool(rows(own_dsn, f"{moment} limit 1"))
        except psycopg.errors.UndefinedTable:
            return False

    wait_until(has_come, "it is at work")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)
    assert (process.returncode, *said) == (130, "", "")
    assert not left(own_dsn)


def test_a_schema_that_is_there_is_left_alone(shell: Shell) -> None:
    rows(shell.dsn, "create schema pgwerk_bench")
    assert 'drop schema "pgwerk_bench" cascade' in shell.refuses("bench")
    assert left(shell.dsn)


def test_what_the_server_refuses_is_said_in_a_sentence(shell: Shell) -> None:
    role = "bench_without_rights"
    rows(shell.dsn, f"create role {role} login password 'secret'")
    try:
        said = shell.refuses("bench", "--dsn", make_conninfo(shell.dsn, user=role, password="secret"))  # noqa: S106
    finally:
        rows(shell.dsn, f"drop role {role}")
    assert said.startswith("error: the server said no: permission denied for database")
