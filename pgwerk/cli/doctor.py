from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pgwerk.cli.exits import Exit
from pgwerk.cli.find import look_here
from pgwerk.cli.output import as_json, say_json
from pgwerk.cli.target import Nameless, on_database
from pgwerk.doctor import CHECKS, Patient, Verdict, examine, name_of
from pgwerk.errors import printable

if TYPE_CHECKING:
    from pgwerk.app import Werk
    from pgwerk.db import Database
    from pgwerk.doctor import Finding

COLOURS = {Verdict.Ok: "green", Verdict.Warning: "yellow", Verdict.Failure: "red"}
VERDICT, CHECK = max(map(len, Verdict)) + 2, max(len(name_of(check)) for check in CHECKS) + 2  # widths


@click.command()
@as_json
@on_database
async def doctor(app: Werk, database: Database, *, as_json: bool) -> None:
    """What may be wrong, and how to mend it.

    Looks at the connection, the schema, vacuum and who holds it up, indexes and plans, workers, queues
    and functions. Nothing is changed. It takes a few seconds, and up to half a minute where a worker
    does not give a sign of life. The exit code is 1 if something keeps jobs from running.
    """
    look_here()
    found: list[tuple[str, Finding]] = []
    patient = Patient(database, app.config, app.serializer, is_app_known=not isinstance(app, Nameless))
    async for name, finding in examine(patient):
        found.append((name, finding))
        if not as_json:
            _tell(name, finding)
    if as_json:
        say_json([{"check": name, **asdict(finding)} for name, finding in found])
    if any(finding.verdict == Verdict.Failure for _, finding in found):
        raise SystemExit(Exit.No)


def _tell(name: str, finding: Finding) -> None:
    """The line that mends it by itself, so that it can be copied."""
    verdict = click.style(f"{finding.verdict:<{VERDICT}}", fg=COLOURS[finding.verdict])
    click.echo(f"{verdict}{name:<{CHECK}}{printable(' '.join(finding.found.split()))}")
    if finding.mend:
        click.echo(f"{'':<{VERDICT}}{'':<{CHECK}}{click.style(printable(finding.mend), bold=True)}")
