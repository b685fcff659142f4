from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pgwerk.cli.exits import Exit
from pgwerk.cli.find import look_here
from pgwerk.cli.output import as_json, show
from pgwerk.cli.target import on_database
from pgwerk.doctor import Patient, Verdict, examine

if TYPE_CHECKING:
    from pgwerk.app import Werk
    from pgwerk.db import Database


@click.command()
@as_json
@on_database
async def doctor(app: Werk, database: Database, *, as_json: bool) -> None:
    """What may be wrong, and how to mend it.

    Looks at the connection, the schema, vacuum and who holds it up, indexes and plans, workers, queues
    and functions. Nothing is changed. It takes a second or two, and more where a worker does not give a
    sign of life. The exit code is 1 if something keeps jobs from running.
    """
    look_here()
    rows: list[dict[str, Any]] = [
        {"check": name, "verdict": finding.verdict, "found": finding.found, "mend": finding.mend}
        async for name, finding in examine(Patient(database, app.config, app.serializer))
    ]
    show(rows, as_json=as_json, none="")
    if any(row["verdict"] == Verdict.Failure for row in rows):
        raise SystemExit(Exit.No)
