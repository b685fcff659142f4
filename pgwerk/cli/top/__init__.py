"""`werk top`: what goes on, live in a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pgwerk.cli.output import is_terminal
from pgwerk.cli.target import on_app
from pgwerk.errors import InvalidOption, MissingExtra

if TYPE_CHECKING:
    from pgwerk.app import Werk


@click.command()
@click.option(
    "--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, metavar="SECONDS",
    help="between two looks",
)  # fmt: skip
@on_app
async def top(app: Werk, interval: float) -> None:
    """What goes on, live: queues, workers, what they run, what has failed."""
    if not (is_terminal(sys.stdout) and is_terminal(sys.stdin)):
        raise InvalidOption("the live screen needs a terminal, and this is none; werk info speaks to pipes")
    try:
        from pgwerk.cli.top.screen import Top  # noqa: PLC0415 - no other command needs its library
    except ImportError as error:
        raise MissingExtra('the live screen needs a library that is not here; pip install "pgwerk[top]"') from error
    await Top(app, interval).run_async()
