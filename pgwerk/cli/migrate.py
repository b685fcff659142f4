from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from pgwerk import migrate as migrations
from pgwerk.cli.output import as_json, say
from pgwerk.cli.target import target, which_app

if TYPE_CHECKING:
    from pgwerk.app import Werk


@click.command()
@click.argument("app", metavar="[APP]", required=False)
@which_app
@click.option("--plan", is_flag=True, help="print the SQL that would run, and change nothing")
@as_json
def migrate(
    app: str | None, *, named: str | None, dsn: str | None, schema: str | None, plan: bool, as_json: bool
) -> None:
    """Bring the schema up to date."""
    asyncio.run(_migrate(target(app or named, dsn, schema), plan=plan, as_json=as_json))


async def _migrate(app: Werk, *, plan: bool, as_json: bool) -> None:
    try:
        database = await app.reach()
        lacking = await (migrations.plan(database) if plan else migrations.migrate(database))
        if not (plan and lacking):
            await migrations.check(database)
        version = await migrations.version(database) if not lacking or not plan else None
        done = f"nothing to do, the schema {database.schema!r} is at version {version}"
        if plan:
            words = "\n".join(f"-- {migration.name}\n{migration.text}" for migration in lacking)
            say(words or done, as_json=as_json, plan=[{"name": each.name, "sql": each.text} for each in lacking])
        else:
            words = "\n".join(f"ran {migration.name}" for migration in lacking)
            say(words or done, as_json=as_json, ran=[migration.name for migration in lacking], version=version)
    finally:
        await app.disconnect()
