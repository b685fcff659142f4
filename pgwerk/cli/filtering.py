"""Which jobs a command is about: the filters of `list_jobs`, as options."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import orjson

from pgwerk import checks
from pgwerk.cli.completing import QUEUE
from pgwerk.errors import InvalidOption
from pgwerk.job import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk.filters import Filters

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Time(click.ParamType[datetime]):
    """Also as the commands print it; without a zone, of the local clock."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, _: click.Context | None) -> datetime:
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r:.80} is no time like 2027-03-28, 2027-03-28 14:30 or 2027-03-28T14:30:00+02:00", param)


_TIMES = _Time()
_OPTIONS: dict[str, tuple[click.ParamType[Any], str]] = {
    "queue": (QUEUE, "in this queue"),
    "status": (click.Choice([*map(str, JobStatus)]), "in this state"),
    "function": (click.STRING, "of this function, by its whole path"),
    "key": (click.STRING, "with this key"),
    "group": (click.STRING, "of this group"),
    "schedule": (click.STRING, "of this schedule"),
    "worker_id": (click.IntRange(0, checks.LARGEST_ID), "that this worker runs or has ended"),
    "meta": (click.STRING, "whose meta contains this JSON object"),
    "search": (click.STRING, "with this text in the function, the key, the arguments or the error"),
    "enqueued_from": (_TIMES, "enqueued at that time of the local clock or later"),
    "enqueued_until": (_TIMES, "enqueued before"),
    "completed_from": (_TIMES, "ended at that time or later"),
    "completed_until": (_TIMES, "ended before"),
}


def filter_options(*, without: tuple[str, ...] = ()) -> Decorator:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, (kind, text) in reversed(_OPTIONS.items()):
            if name not in without:
                command = click.option(f"--{name.replace('_', '-')}", type=kind, help=f"jobs {text}")(command)
        return command

    return decorate


def filters_of(given: dict[str, Any]) -> Filters:
    """What was said of them."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.get("search") == "":
        raise InvalidOption("--search must be a text, got none at all, which every job has; leave it out for all")
    for name, value in chosen.items():
        if isinstance(value, datetime):
            chosen[name] = _local(name, value)
    if "meta" in chosen:
        chosen["meta"] = _object(chosen["meta"])
    filters: Filters = chosen  # type: ignore[assignment]
    return filters


def _local(name: str, moment: datetime) -> datetime:
    try:
        return moment.astimezone()  # as it is, where it has a zone
    except (ValueError, OverflowError, OSError) as error:
        option = f"--{name.replace('_', '-')}"
        raise InvalidOption(f"{option} lies beyond what clocks can show, got {moment.isoformat()}") from error


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise InvalidOption(f"--meta must be a JSON object, got {text!r:.80}: {error}") from error
    if not isinstance(value, dict):
        raise InvalidOption(f"--meta must be a JSON object, got {text!r:.80}")
    return value
