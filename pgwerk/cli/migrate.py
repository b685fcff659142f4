from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from pgwerk import migrate as migrations
from pgwerk.app import Werk
from pgwerk.cli.find import find_app
from pgwerk.cli.settings import configure, setting_options
from pgwerk.db import Database
from pgwerk.store.schema import SchemaStore

if TYPE_CHECKING:
    from pgwerk.sql import Migration


@click.command()
@click.argument("app", metavar="[MODULE:APP]", required=False)
@setting_options("dsn", "schema")
@click.option("--plan", is_flag=True, help="print the SQL that would run, and change nothing")
def migrate(app: str | None, *, plan: bool, **settings: Any) -> None:
    """Bring the schema of a database up to date: that of an app, like tasks:app, or the one at --dsn."""
    found = find_app(app) if app else Werk()
    configure(found, settings)
    lacking, version = asyncio.run(_migrate(found, plan=plan))
    for migration in lacking:
        click.echo(f"-- {migration.name}\n{migration.text}" if plan else f"ran {migration.name}")
    if not lacking:
        click.echo(f"nothing to do, the schema {found.config.schema!r} is at version {version}")


async def _migrate(app: Werk, *, plan: bool) -> tuple[list[Migration], int]:
    """What was lacking, and the version that the schema has now."""
    try:
        database = Database(await app._resolve(), app.config.schema, app._pool, app._connect)  # noqa: SLF001
        lacking = await (migrations.plan(database) if plan else migrations.migrate(database))
        if plan and lacking:
            return lacking, 0
        await migrations.check(database)
        async with database.session() as session:
            version, _ = await session.run(SchemaStore(database.schema).version())
        return lacking, version
    finally:
        await app.disconnect()
