from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from pgwerk import migrate as migrations
from pgwerk.cli.output import as_json, say
from pgwerk.cli.target import target, which_app
from pgwerk.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgwerk.app import Werk
    from pgwerk.db import Database

    Act = Callable[..., Awaitable[None]]


@click.command()
@click.argument("app", metavar="[APP]", required=False)
@which_app
@click.option("--plan", is_flag=True, help="print the SQL that would run, and change nothing")
@as_json
def migrate(
    app: str | None, *, named: str | None, dsn: str | None, schema: str | None, plan: bool, as_json: bool
) -> None:
    """Bring the schema up to date."""
    if app is not None and named is not None:
        raise InvalidOption("which app it is about is said twice, as APP and by -a; leave one of them out")
    found = target(named if app is None else app, dsn, schema)
    asyncio.run(_reached(found, _show if plan else _run, as_json=as_json))


async def _reached(app: Werk, act: Act, *, as_json: bool) -> None:
    try:
        await act(await app.reach(), as_json=as_json)
    finally:
        await app.disconnect()


async def _show(database: Database, *, as_json: bool) -> None:
    lacking = await migrations.plan(database)
    words = "\n".join(f"-- {migration.name}\n{migration.text}" for migration in lacking)
    done = words or _done(database, await _version(database))
    say(done, as_json=as_json, plan=[{"name": each.name, "sql": each.text} for each in lacking])


async def _run(database: Database, *, as_json: bool) -> None:
    ran = [migration.name for migration in await migrations.migrate(database)]
    version = await _version(database)
    words = "\n".join(f"ran {name}" for name in ran)
    say(words or _done(database, version), as_json=as_json, ran=ran, version=version)


async def _version(database: Database) -> int:
    """Refused where it and this code do not go together."""
    await migrations.check(database)
    return await migrations.version(database)


def _done(database: Database, version: int) -> str:
    return f"nothing to do, the schema {database.schema!r} is at version {version}"
