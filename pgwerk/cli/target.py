"""Which app a command is about."""

from __future__ import annotations

import asyncio
import os
import tomllib
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgwerk.app import Werk
from pgwerk.cli.find import find_app
from pgwerk.cli.settings import configure, setting_options
from pgwerk.config import environ_name
from pgwerk.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    Command = Callable[..., Awaitable[None]]
    Run = Callable[[Command, Werk, Mapping[str, Any]], Coroutine[None, None, None]]

F = TypeVar("F", bound="Callable[..., Any]")

APP, PROJECT = "PGWERK_APP", "pyproject.toml"
SETTINGS = ("dsn", "schema")  # beside `app`, in [tool.pgwerk]
_HELP = f"module:attribute, or a DSN  [default: {APP}, PGWERK_DSN, or app or dsn in [tool.pgwerk] of {PROJECT}]"


class Nameless(Werk):
    """Of a DSN alone: how its jobs are written, and where their functions are, is not known."""


def on_app(command: Command) -> Callable[..., None]:
    """A coroutine that is given a connected app, as a command with the options that say which. To look at a database
    must not change its schema.
    """
    return _on_target(command, _connected)


def on_new_app(command: Command) -> Callable[..., None]:
    """The same for what may be the first that a database sees."""
    return _on_target(command, _migrated)


def on_database(command: Command) -> Callable[..., None]:
    """The same with the app's database beside the app, which is not connected: nothing is migrated, and the schema may
    be in any state.
    """
    return _on_target(command, _reached)


def which_app(command: F) -> F:
    """The options for `target`."""
    return click.option("-a", "--app", "named", metavar="APP", help=_HELP)(setting_options(*SETTINGS)(command))


def _on_target(command: Command, run: Run) -> Callable[..., None]:
    @which_app
    @wraps(command)
    def to_end(*, named: str | None, dsn: str | None, schema: str | None, **given: Any) -> None:
        asyncio.run(run(command, target(named, dsn, schema), given))

    return to_end


async def _connected(command: Command, app: Werk, given: Mapping[str, Any]) -> None:
    configure(app, {"auto_migrate": False})
    await _migrated(command, app, given)


async def _migrated(command: Command, app: Werk, given: Mapping[str, Any]) -> None:
    async with app:
        await command(app, **given)


async def _reached(command: Command, app: Werk, given: Mapping[str, Any]) -> None:
    try:
        await command(app, await app.reach(), **given)
    finally:
        await app.disconnect()


def target(named: str | None, dsn: str | None, schema: str | None) -> Werk:
    """What the command line says, else the environment, else the project in the current folder."""
    if named is not None and dsn is not None and _is_dsn(named):
        raise InvalidOption("the database is said twice, by a DSN as the app and by --dsn; leave one of them out")
    project = project_here()
    if named is None and dsn is None:
        named = os.environ.get(APP) or (None if environ_name("dsn") in os.environ else project.get("app"))
    heed(project)
    if named is None:
        app: Werk = Nameless()
    elif _is_dsn(named):
        app, dsn = Nameless(), named
    else:
        app = find_app(named)
    configure(app, {"dsn": dsn, "schema": schema})
    return app


def heed(project: Mapping[str, str]) -> None:
    """An app takes its settings from the environment: what that leaves open the project says. Before it is imported."""
    for setting in SETTINGS:
        if setting in project:
            os.environ.setdefault(environ_name(setting), project[setting])


def _is_dsn(text: str) -> bool:
    return "://" in text or "=" in text or text.startswith("embedded:")


def project_here() -> dict[str, str]:
    """What is said in it."""
    file = Path(PROJECT)
    try:
        found = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("pgwerk", {}) if file.is_file() else {}
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidOption(f"{PROJECT} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InvalidOption(f"[tool.pgwerk] in {PROJECT} is a table, got {found!r:.80}")
    for name, value in found.items():
        if name not in ("app", *SETTINGS) or not isinstance(value, str):
            raise InvalidOption(
                f"[tool.pgwerk] in {PROJECT} has the texts app, dsn and schema, got {name} = {value!r:.80}"
            )
    return dict(found)
