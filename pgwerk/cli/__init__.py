"""`werk`, the command."""

from __future__ import annotations

import errno
import importlib
import os
import re
from typing import IO, Any

import click
import psycopg

from pgwerk.cli.exits import Exit
from pgwerk.errors import WerkError, one_line, printable, said_no
from pgwerk.params import OPTIONS

FILES = {
    "worker": ("worker",),
    "top": ("top",),
    "jobs": ("enqueue", "jobs", "job", "why"),
    "steering": ("retry", "cancel", "abort", "delete", "purge"),
    "queues": ("info", "queues", "stats", "slowest", "throughput"),
    "schedules": ("schedules",),
    "check": ("check",),
    "doctor": ("doctor",),
    "bench": ("bench",),
    "migrate": ("migrate",),
    "demo": ("demo",),
}
_OPTION = re.compile(rf"(?<![\w.'\"])_({'|'.join(OPTIONS)})\b")
_FILE_OF = {name: file for file, names in FILES.items() for name in names}


class _Failure(click.ClickException):
    """One line on stderr."""

    exit_code = Exit.No

    def show(self, file: IO[Any] | None = None) -> None:
        words = " ".join(_OPTION.sub(_as_said_here, self.message).split())
        click.echo(f"error: {printable(words)}", file=file, err=True)


def _as_said_here(found: re.Match[str]) -> str:
    """What is `_name` in Python."""
    return f"--{found[1].replace('_', '-')}"


class _Commands(click.Group):
    """A command is imported when it is asked for: to import the others would take longer than most of them do."""

    def list_commands(self, _: click.Context) -> list[str]:
        return [*_FILE_OF]

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in _FILE_OF:
            return None
        found: click.Command = getattr(importlib.import_module(f"{__name__}.{_FILE_OF[name]}"), name)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WerkError as error:
            raise _Failure(str(error)) from error
        except psycopg.Error as error:
            raise _Failure(said_no(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read has seen enough
                raise
            raise _Failure(one_line(error)) from error
        except KeyboardInterrupt:
            raise SystemExit(Exit.Interrupted) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pgwerk")
def commands() -> None:
    """A job queue on the Postgres you already have."""


def main() -> None:
    commands(prog_name="werk", color=False if os.environ.get("NO_COLOR") else None)
