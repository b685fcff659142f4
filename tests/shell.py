"""`werk`, as a shell runs it: once, to its end."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import click

from tests.workplace import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PGWERK_")}
UNNAMED = {"LANG": "C.UTF-8"}  # an environment that names no app


def every_command(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from every_command(command, *before, name)
        elif command is not None:
            yield (*before, name), command


class Shell:
    """In a folder, and on a database unless the environment is said to be another one."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder, self.dsn = folder, dsn

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        named = environment or {"PGWERK_DSN": self.dsn}
        return subprocess.run(
            [sys.executable, "-m", "pgwerk", *arguments], cwd=self.folder, text=True, capture_output=True, timeout=60,
            stdin=subprocess.DEVNULL, env=CLEAN | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | named,
        )  # fmt: skip

    def shows(self, *arguments: str, **environment: str) -> str:
        """On a terminal, whatever the exit code."""
        screen, terminal = pty.openpty()
        named = {"PGWERK_DSN": self.dsn, "TERM": "xterm", **environment}
        subprocess.run(
            [sys.executable, "-m", "pgwerk", *arguments], stdout=terminal, check=False, timeout=60, env=CLEAN | named
        )
        os.close(terminal)
        shown = os.read(screen, 65536).decode()
        os.close(screen)
        return shown

    def says(self, *arguments: str, **environment: str) -> str:
        ran = self.run(*arguments, **environment)
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout

    def refuses(self, *arguments: str, **environment: str) -> str:
        """In one line, without a traceback."""
        ran = self.run(*arguments, **environment)
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
        return ran.stderr
