"""What the queues hold and do, and what they have done."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from pgwerk.cli.completing import QUEUE
from pgwerk.cli.output import as_json, is_terminal, say, seconds, show, since
from pgwerk.cli.target import on_app
from pgwerk.overview import LONGEST_SPAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.app import Werk
    from pgwerk.overview import FunctionStats, QueueInfo, Throughput

BAR = 20  # characters of the longest bar
WHOLE = 10  # a second, from which on fractions say nothing
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)  # from one row of the history to the next

minutes = click.option(
    "--minutes", type=click.IntRange(1, LONGEST_SPAN), default=60, show_default=True, help="so many, up to now"
)
of_queue = click.option("--queue", type=QUEUE, help="of this queue alone")


@click.command()
@as_json
@on_app
async def info(app: Werk, *, as_json: bool) -> None:
    """The queues at a glance.

    What stands in each, since when the oldest waits, how fast jobs end, and when none would be left at that pace.
    """
    found = await app.list_queues()
    rows = [asdict(each) | {"drained_in": each.drained_in} if as_json else queue_row(each) for each in found]
    show(rows, as_json=as_json, none="there are no queues: nothing was ever enqueued here, and no worker runs")


@click.group()
def queues() -> None:
    """Let queues rest, and go on."""


@queues.command()
@click.argument("queue", type=QUEUE)
@as_json
@on_app
async def pause(app: Werk, queue: str, *, as_json: bool) -> None:
    """No worker claims from it until it is resumed; what runs goes on."""
    paused = await app.pause_queue(queue)
    say(f"paused {queue}" if paused else f"{queue} was paused already", as_json=as_json, queue=queue, paused=paused)


@queues.command()
@click.argument("queue", type=QUEUE)
@as_json
@on_app
async def resume(app: Werk, queue: str, *, as_json: bool) -> None:
    """Workers claim from it again."""
    resumed = await app.resume_queue(queue)
    say(f"resumed {queue}" if resumed else f"{queue} was not paused", as_json=as_json, queue=queue, resumed=resumed)


@click.command()
@minutes
@of_queue
@as_json
@on_app
async def throughput(app: Werk, minutes: int, queue: str | None, *, as_json: bool) -> None:
    """Attempts that ended, minute by minute."""
    found = await app.get_throughput_history(minutes, queue)
    rows = [asdict(each) for each in found] if as_json else _chart(found)
    show(rows, as_json=as_json, none="nothing has ended in that time")


@click.command()
@minutes
@of_queue
@as_json
@on_app
async def stats(app: Werk, minutes: int, queue: str | None, *, as_json: bool) -> None:
    """How the functions' attempts ended, those first that took the most time."""
    found = await app.get_function_stats(minutes, queue)
    rows = [asdict(each) if as_json else _ends(each) for each in found]
    show(rows, as_json=as_json, none="nothing has ended in that time")


@click.command()
@minutes
@of_queue
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@as_json
@on_app
async def slowest(app: Werk, minutes: int, queue: str | None, limit: int, *, as_json: bool) -> None:
    """The functions whose attempts take longest, on the average."""
    found = sorted(await app.get_function_stats(minutes, queue), key=lambda each: -each.mean_secs)[:limit]
    rows = [asdict(each) if as_json else _times(each) for each in found]
    show(rows, as_json=as_json, none="nothing has ended in that time")


QUEUE_COLUMNS = (
    "queue", "paused", "queued", "oldest", "active", "scheduled", "waiting", "rate", "drained", "workers",
)  # fmt: skip


def queue_row(queue: QueueInfo) -> dict[str, Any]:
    def counted(kind: str) -> str:
        return f"{getattr(queue, kind)}{'+' if kind in queue.at_least else ''}"

    drained_in = queue.drained_in if queue.queued else None
    drained = None if drained_in is None else seconds(drained_in, 2) + ("+" if "queued" in queue.at_least else "")
    values = (
        queue.queue, since(queue.paused_at), counted("queued"), since(queue.oldest_queued_at), counted("active"),
        counted("scheduled"), counted("waiting"), pace(queue.rate), drained, queue.workers,
    )  # fmt: skip
    return dict(zip(QUEUE_COLUMNS, values, strict=True))


def pace(rate: float) -> str:
    """So many a second."""
    return f"{rate:.0f}" if rate >= WHOLE else f"{rate:.2g}"


def _chart(found: Sequence[Throughput]) -> list[dict[str, Any]]:
    """People see a gap as one."""
    rows = [asdict(each) | {"minute": f"{each.minute.astimezone():%Y-%m-%d %H:%M}"} for each in found]
    if not is_terminal(sys.stdout):
        return rows
    most = max((each.ended for each in found), default=0) or 1
    drawn = [row | {"": "█" * round(BAR * each.ended / most)} for row, each in zip(rows, found, strict=True)]
    gaps = [then.minute - one.minute for one, then in pairwise(found)]
    for place, gap in reversed([*enumerate(gaps, 1)]):
        if gap > MINUTE and gap != HOUR:
            words = f"({seconds((gap - MINUTE).total_seconds())} without any)"
            drawn.insert(place, dict.fromkeys(drawn[0], "") | {"minute": words})
    return drawn


def _ends(each: FunctionStats) -> dict[str, Any]:
    return {
        "function": each.function, "complete": each.complete, "failed": each.failed, "aborted": each.aborted,
        "retried": each.retried, "failed %": f"{100 * each.failed / each.ended:.1f}" if each.ended else None,
        "time": seconds(each.run_secs),
    }  # fmt: skip


def _times(each: FunctionStats) -> dict[str, Any]:
    return {
        "function": each.function, "attempts": each.ended + each.retried, "mean": seconds(each.mean_secs),
        "longest": seconds(each.longest_secs), "time": seconds(each.run_secs),
    }  # fmt: skip
