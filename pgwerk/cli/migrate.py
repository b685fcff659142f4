from __future__ import annotations

import asyncio
from typing import Any

import click

from pgwerk import migrate as migrations
from pgwerk.app import Werk
from pgwerk.cli.find import find_app
from pgwerk.cli.settings import configure, setting_options


@click.command()
@click.argument("app", metavar="[MODULE:APP]", required=False)
@setting_options("dsn", "schema")
@click.option("--plan", is_flag=True, help="print the SQL that would run, and change nothing")
def migrate(app: str | None, *, plan: bool, **settings: Any) -> None:
    """Bring the schema up to date.

    That of an app, like tasks:app, or the one at --dsn.
    """
    found = find_app(app) if app else Werk()
    configure(found, settings)
    for line in asyncio.run(_migrate(found, plan=plan)):
        click.echo(line)


async def _migrate(app: Werk, *, plan: bool) -> list[str]:
    """What there is to say of it."""
    try:
        database = await app.reach()
        lacking = await (migrations.plan(database) if plan else migrations.migrate(database))
        if plan and lacking:
            return [f"-- {migration.name}\n{migration.text}" for migration in lacking]
        await migrations.check(database)
        version = await migrations.version(database)
        done = f"nothing to do, the schema {database.schema!r} is at version {version}"
        return [f"ran {migration.name}" for migration in lacking] or [done]
    finally:
        await app.disconnect()
