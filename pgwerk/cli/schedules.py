from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from pgwerk.cli.completing import QUEUE
from pgwerk.cli.output import arguments_of, as_json, say, show
from pgwerk.cli.target import on_app, on_new_app
from pgwerk.cron import Cron, ticks
from pgwerk.errors import InvalidOption, ScheduleNotFound
from pgwerk.schedule import Missed, Overlap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgwerk.app import Werk
    from pgwerk.schedule import Schedule

YEARS = range(1900, 9999)  # that a preview may start in: zones and calendars have ends
LAST = datetime.max.replace(tzinfo=UTC)

name = click.argument("name")


@click.group()
def schedules() -> None:
    """Jobs that come again and again."""


@schedules.command("list")
@as_json
@on_app
async def list_(app: Werk, *, as_json: bool) -> None:
    """All schedules, by name."""
    found = [asdict(each) if as_json else _row(each) for each in await app.list_schedules()]
    show(found, as_json=as_json, none="there are no schedules")


def _row(schedule: Schedule) -> dict[str, Any]:
    cron = f"{schedule.cron} {schedule.tz}"
    options: Any = schedule.options  # or why they cannot be read
    return {
        "name": schedule.name,
        "when": cron if schedule.interval is None else f"every {timedelta(seconds=schedule.interval)}",
        "function": schedule.function,
        "queue": options.get("queue", "default") if isinstance(options, dict) else options,
        "paused": schedule.is_paused,
        "next": schedule.next_run_at,
        "last": schedule.last_run_at,
    }


@schedules.command()
@click.argument("function", metavar="PATH.TO.FUNCTION")
@click.argument("kwargs", metavar="[JSON]", default="{}")
@click.option("--cron", help="five fields, or six with seconds first")
@click.option("--interval", type=float, metavar="SECONDS")
@click.option("--name", help="[default: the function]")
@click.option("--tz", default="UTC", show_default=True, help="in which the expression is read")
@click.option("--queue", type=QUEUE, default="default", show_default=True)
@click.option("--missed", type=click.Choice([*map(str, Missed)]), default=str(Missed.Latest), show_default=True)
@click.option("--overlap", type=click.Choice([*map(str, Overlap)]), default=str(Overlap.Allow), show_default=True)
@as_json
@on_new_app
async def create(app: Werk, function: str, kwargs: str, *, as_json: bool, **said: Any) -> None:
    """Make a schedule.

    The arguments are a JSON object (by name) or list (by place).
    """
    made = await app.create_schedule(function, **said, **arguments_of(kwargs))
    words = f"made {made.name}; its first job is due at {made.next_run_at:%Y-%m-%d %H:%M:%S %Z}"
    say(words, as_json=as_json, name=made.name, next=made.next_run_at)


@schedules.command()
@name
@as_json
@on_app
async def pause(app: Werk, name: str, *, as_json: bool) -> None:
    """No jobs until it is resumed."""
    await _named(app, name)
    paused = await app.pause_schedule(name)
    say(f"paused {name}" if paused else f"{name} was paused already", as_json=as_json, name=name, paused=paused)


@schedules.command()
@name
@as_json
@on_app
async def resume(app: Werk, name: str, *, as_json: bool) -> None:
    """Jobs again, from the next tick on."""
    resumed = await app.resume_schedule(name)
    due = (await _named(app, name)).next_run_at
    words = f"resumed {name}" if resumed else f"{name} is not paused"
    say(f"{words}; next at {due}", as_json=as_json, name=name, resumed=resumed, next=due)


@schedules.command()
@name
@as_json
@on_app
async def trigger(app: Werk, name: str, *, as_json: bool) -> None:
    """One job now."""
    job = await app.trigger_schedule(name)
    say(f"enqueued job {job.id}", as_json=as_json, id=job.id)


@schedules.command()
@name
@as_json
@on_app
async def delete(app: Werk, name: str, *, as_json: bool) -> None:
    """The schedule; its jobs stay."""
    if not await app.delete_schedule(name):
        raise _missing(name)
    say(f"deleted {name}", as_json=as_json, name=name)


async def _named(app: Werk, name: str) -> Schedule:
    """Also one whose arguments cannot be read here."""
    for schedule in await app.list_schedules():
        if schedule.name == name:
            return schedule
    raise _missing(name)


def _missing(name: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"there is no schedule {name!r}; werk schedules list has those that there are")


@schedules.command()
@click.argument("expression")
@click.option("--tz", default="UTC", show_default=True, help="in which the expression is read")
@click.option(
    "--from", "start", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]), metavar="TIME",
    help="in that zone  [default: now]",
)  # fmt: skip
@click.option("-n", "count", type=click.IntRange(1, 1000), default=10, show_default=True, help="how many")
@as_json
def preview(expression: str, tz: str, start: datetime | None, count: int, *, as_json: bool) -> None:
    """When a cron expression is due, with the changes of the clocks."""
    cron = Cron(expression, tz)
    if start and start.year not in YEARS:
        raise InvalidOption(f"--from must lie in the years {YEARS[0]} to {YEARS[-1]}, got {start.date()}")
    first = cron.after((start.replace(tzinfo=cron.tz) if start else datetime.now(UTC)) - timedelta(microseconds=1))
    show(list(_previewed(cron, first, count)), as_json=as_json, none="never")


def _previewed(cron: Cron, first: datetime | None, count: int) -> Iterator[dict[str, Any]]:
    before = None
    for tick in islice(ticks(cron, first, LAST), count) if first else ():
        local = tick.astimezone(cron.tz)
        yield {
            "local time": local.isoformat(" "),
            "UTC": tick.isoformat(" "),
            "change": _change(before, local.utcoffset()),
        }
        before = local.utcoffset()


def _change(before: timedelta | None, now: timedelta | None) -> str:
    """What the clocks have done between two ticks."""
    if before is None or now is None or before == now:
        return ""
    return f"clocks have gone {'forward' if now > before else 'back'} by {abs(now - before)}"
