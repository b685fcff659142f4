from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pgwerk import migrate
from pgwerk.cli.exits import Exit
from pgwerk.cli.find import import_from_here, look_here
from pgwerk.cli.output import as_json, say_json, show
from pgwerk.cli.target import on_database
from pgwerk.errors import SchemaTooOld
from pgwerk.fitting import fit

if TYPE_CHECKING:
    from pgwerk.app import Werk
    from pgwerk.db import Database
    from pgwerk.fitting import Fitting


@click.command()
@click.argument("modules", metavar="[MODULE]...", nargs=-1)
@as_json
@on_database
async def check(app: Werk, database: Database, modules: tuple[str, ...], *, as_json: bool) -> None:
    """Whether the jobs that wait fit the code that is here.

    Before a deploy: every job that has not started, its callbacks and every schedule are held against
    the functions in front of them, and those that would fail are listed: the function is gone, or takes
    other arguments. Nothing is changed, and nothing but modules is run. MODULEs are imported first;
    without any, what -a names is, and a function's own module when it is looked for, as a worker does.
    The exit code is 1 if a job would fail.
    """
    look_here()
    for module in modules:
        import_from_here(module, module)
    with contextlib.suppress(SchemaTooOld):  # it comes before the deploy that migrates
        await migrate.check(database)
    _say(await fit(database, app.serializer, app.config.allow), as_json=as_json)


def _say(found: Fitting, *, as_json: bool) -> None:
    if as_json:
        say_json(
            {"jobs": found.jobs, "schedules": found.schedules, "misfits": [asdict(misfit) for misfit in found.misfits]}
        )
    else:
        rows = [
            {"function": each.function, "jobs": each.jobs, "reason": each.reason, "like": ", ".join(map(str, each.ids))}
            for each in found.misfits
        ]
        asked = f"{found.jobs} jobs that have not started, {found.schedules} schedules"
        show(rows, as_json=False, none=f"{asked}: all of them fit the code here")
    if found.misfits:
        raise SystemExit(Exit.No)
