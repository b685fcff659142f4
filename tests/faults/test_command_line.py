"""Odd words for every argument and option of every command: it does what it says, or refuses in a sentence.

PGWERK_TEST_LINES is for how many lines each command is given (`make test-faults` says 300).
"""

from __future__ import annotations

import os
import random

import click
import pytest
from click.testing import CliRunner

from pgwerk.cli import commands
from tests.shell import every_command

LINES = int(os.environ.get("PGWERK_TEST_LINES", "4"))
ODD = (
    "", " ", "-", "--", "0", "-1", "1", "2147483648", "99999999999999999999", "1e400", "nan", "inf", "-inf", "0x10",
    "null", "{}", "[]", '{"a": 1}', '{"a": NaN}', "[1, 2", "\ud800", "ü" * 300, "'; drop table job; --", "%s", "{0}",
    "m.f", "..", "os.system", "2026-11-25", "9999-12-31 23:59:59", "0001-01-01", "@daily", "* * * * *", "61 * * * *",
    "Europe/Paris", "failed", "complete", "\n", "\x1b[31m",
)  # fmt: skip
LONG_RUNNING = {"worker", "top", "demo", "bench", "migrate"}  # an app's own module, a screen, or a server of its own
WAITING = {"wait"}
WORDS_OF_CLICK = {0, 1, 2}


COMMANDS = {path: command for path, command in every_command(commands) if path[0] not in LONG_RUNNING}


def odd_line(chance: random.Random, command: click.Command) -> list[str]:
    """Each argument and some of the options, with odd words or with those that a choice has."""
    line: list[str] = []
    for each in command.params:
        words = [*ODD, *each.type.choices] if isinstance(each.type, click.Choice) else list(ODD)
        if isinstance(each, click.Argument):
            line += [chance.choice(words) for _ in range(chance.randint(0, 2) if each.nargs != 1 else 1)]
        elif each.name not in {*WAITING, "named", "dsn", "schema", "help"} and chance.random() < 0.3:
            is_flag = isinstance(each, click.Option) and each.is_flag
            line += [each.opts[0]] if is_flag else [f"{each.opts[-1]}={chance.choice(words)}"]
    return line


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_odd_words_are_taken_or_refused_in_a_sentence(path: tuple[str, ...], migrated_dsn: str) -> None:
    seed = int(os.environ.get("PGWERK_TEST_SEED") or random.randrange(10**6))
    print(f"seed {seed}")
    chance, runner = random.Random(seed), CliRunner(env={"PGWERK_DSN": migrated_dsn, "PGWERK_APP": None})
    for _ in range(LINES):
        line = [*path, *odd_line(chance, COMMANDS[path])]
        ran = runner.invoke(commands, line)
        assert ran.exception is None or isinstance(ran.exception, SystemExit), (line, ran.exc_info)
        assert ran.exit_code in WORDS_OF_CLICK, line
        assert "Traceback" not in ran.output
        if ran.exit_code == 1:
            assert ran.stderr.count("\n") <= 1, (line, ran.stderr)
