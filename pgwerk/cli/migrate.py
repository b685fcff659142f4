from __future__ import annotations

import asyncio
from typing import Any

import click

from pgwerk import migrate as migrations
from pgwerk.app import Werk
from pgwerk.cli.find import find_app
from pgwerk.cli.output import as_json, say
from pgwerk.cli.settings import configure, setting_options


@click.command()
@click.argument("app", metavar="[MODULE:APP]", required=False)
@setting_options("dsn", "schema")
@click.option("--plan", is_flag=True, help="print the SQL that would run, and change nothing")
@as_json
def migrate(app: str | None, *, plan: bool, as_json: bool, **settings: Any) -> None:
    """Bring the schema up to date.

    That of an app, like tasks:app, or the one at --dsn.
    """
    found = find_app(app) if app else Werk()
    configure(found, settings)
    asyncio.run(_migrate(found, plan=plan, as_json=as_json))


async def _migrate(app: Werk, *, plan: bool, as_json: bool) -> None:
    try:
        database = await app.reach()
        lacking = await (migrations.plan(database) if plan else migrations.migrate(database))
        if plan and lacking:
            words = "\n".join(f"-- {migration.name}\n{migration.text}" for migration in lacking)
            say(words, as_json=as_json, plan=[{"name": each.name, "sql": each.text} for each in lacking])
            return
        await migrations.check(database)
        version = await migrations.version(database)
        words = "\n".join(f"ran {migration.name}" for migration in lacking)
        done = f"nothing to do, the schema {database.schema!r} is at version {version}"
        say(words or done, as_json=as_json, ran=[migration.name for migration in lacking], version=version)
    finally:
        await app.disconnect()
