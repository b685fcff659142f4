"""`werk`, the command."""

from __future__ import annotations

from typing import IO, Any

import click
import psycopg

from pgwerk.cli.bench import bench
from pgwerk.cli.check import check
from pgwerk.cli.demo import demo
from pgwerk.cli.doctor import doctor
from pgwerk.cli.exits import Exit
from pgwerk.cli.jobs import enqueue, job, jobs, why
from pgwerk.cli.migrate import migrate
from pgwerk.cli.queues import info, queues, slowest, stats, throughput
from pgwerk.cli.schedules import schedules
from pgwerk.cli.steering import abort, cancel, delete, purge, retry
from pgwerk.cli.top import top
from pgwerk.cli.worker import worker
from pgwerk.errors import WerkError
from pgwerk.events import one_line


class _Failure(click.ClickException):
    """One line on stderr."""

    exit_code = Exit.No

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {' '.join(self.message.split())}", file=file, err=True)


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WerkError as error:
            raise _Failure(str(error)) from error
        except psycopg.Error as error:
            raise _Failure(f"the server said no: {one_line(error)}") from error
        except KeyboardInterrupt:
            raise SystemExit(Exit.Interrupted) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pgwerk")
def commands() -> None:
    """A job queue on the Postgres you already have."""


for command in (
    worker,
    info,
    top,
    enqueue,
    jobs,
    job,
    why,
    retry,
    cancel,
    abort,
    delete,
    purge,
    queues,
    stats,
    slowest,
    throughput,
    schedules,
    check,
    doctor,
    bench,
    migrate,
    demo,
):
    commands.add_command(command)


def main() -> None:
    commands(prog_name="werk")
