from __future__ import annotations

import asyncio
from typing import Any

import click

from pgwerk import migrate as migrations
from pgwerk.app import Werk
from pgwerk.cli.find import find_app
from pgwerk.cli.settings import configure, setting_options
from pgwerk.db import Database
from pgwerk.store.schema import SchemaStore


@click.command()
@click.argument("app", metavar="[MODULE:APP]", required=False)
@setting_options("dsn", "schema")
@click.option("--plan", is_flag=True, help="print the SQL that would run, and change nothing")
def migrate(app: str | None, *, plan: bool, **settings: Any) -> None:
    """Bring the schema of a database up to date: that of an app, like tasks:app, or the one at --dsn."""
    found = find_app(app) if app else Werk()
    configure(found, settings)
    for line in asyncio.run(_migrate(found, plan=plan)):
        click.echo(line)


async def _migrate(app: Werk, *, plan: bool) -> list[str]:
    """What there is to say of it."""
    try:
        database = Database(await app._resolve(), app.config.schema, app._pool, app._connect)  # noqa: SLF001
        lacking = await (migrations.plan(database) if plan else migrations.migrate(database))
        if plan and lacking:
            return [f"-- {migration.name}\n{migration.text}" for migration in lacking]
        await migrations.check(database)
        return [f"ran {migration.name}" for migration in lacking] or [await _nothing_to_do(database)]
    finally:
        await app.disconnect()


async def _nothing_to_do(database: Database) -> str:
    async with database.session() as session:
        version, _ = await session.run(SchemaStore(database.schema).version())
    return f"nothing to do, the schema {database.schema!r} is at version {version}"
