"""When a schedule is due: by a cron expression in a time zone, or at a steady interval."""

from __future__ import annotations

import importlib
import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

from pgwerk.errors import InvalidOption, InvalidType, MissingExtra, brief

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from cronsim import CronSim

LONGEST = 255  # characters of an expression
HOURS = 24
FIRST_STRETCH, LONGER = timedelta(minutes=1), 8
FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")  # as the library names them
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_PLAIN = re.compile(r"[!-~\s]*", re.ASCII)
_MINUTE = timedelta(minutes=1)


class Rhythm(Protocol):
    """What comes out is in UTC."""

    def after(self, moment: datetime) -> datetime | None:
        """The first tick behind it; None: there will be none."""

    def last(self, first: datetime, until: datetime) -> datetime:
        """The newest tick that is not behind `until`; `first` is one."""


def ticks(rhythm: Rhythm, first: datetime, until: datetime) -> Iterator[datetime]:
    """From `first`, which is one, up to `until`."""
    return takewhile(lambda tick: tick <= until, _from(rhythm, first))


def _from(rhythm: Rhythm, first: datetime | None) -> Iterator[datetime]:
    while first is not None:
        yield first
        first = rhythm.after(first)


@dataclass(frozen=True)
class Every:
    seconds: float
    start: datetime

    def after(self, moment: datetime) -> datetime:
        return self.start + max(0, (moment - self.start) // self._interval + 1) * self._interval

    def last(self, first: datetime, until: datetime) -> datetime:
        return max(first, self.after(until) - self._interval)

    @property
    def _interval(self) -> timedelta:
        return timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Cron:
    """Minute, hour, day of the month, month, day of the week; of six fields, the first is the second.

    What is meant for certain hours runs once whatever the clocks do: a time that they leave out, right behind the gap;
    one that comes twice, the first time. What is meant for every hour keeps its pace.
    """

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        text = self.expression
        if not isinstance(text, str):
            raise InvalidType(f"cron must be an expression like '*/15 * * * *', got {brief(text)}")
        if len(text) > LONGEST or not _PLAIN.fullmatch(text):
            raise InvalidOption(f"cron must be an expression of at most {LONGEST} plain characters, got {brief(text)}")
        self._check_fields()
        if self.after(datetime.now(UTC)) is None:
            raise InvalidOption(f"cron must be due some day, got {text!r}, which never is")

    def after(self, moment: datetime) -> datetime | None:
        local = moment.astimezone(self.tz)
        walk = self._by_time(local) if self._is_for_every_hour else self._by_the_wall(local)
        try:
            return next((tick for tick in walk if tick > moment), None)
        except OverflowError:  # the calendar ends
            return None

    def last(self, first: datetime, until: datetime) -> datetime:
        return deque(ticks(self, self._near(first, until), until), maxlen=1)[0]

    @cached_property
    def tz(self) -> ZoneInfo:
        return zone_of(self.zone)

    def _near(self, first: datetime, until: datetime) -> datetime:
        """The first tick of the shortest stretch before `until` that has one: after a long outage there are more than
        anybody wants to count.
        """
        stretch = FIRST_STRETCH
        while until - stretch > first:
            tick = self.after(until - stretch)
            if tick is not None and tick <= until:
                return tick
            stretch *= LONGER
        return first

    def _by_time(self, local: datetime) -> Iterator[datetime]:
        return (tick.astimezone(UTC) for tick in self._walk(local))

    def _by_the_wall(self, local: datetime) -> Iterator[datetime]:
        return (self._shown_at(tick) for tick in self._walk(local.replace(tzinfo=None)))

    def _shown_at(self, wall: datetime) -> datetime:
        """When the clock on the wall first shows this, or the next minute that it does show."""
        while (moment := wall.replace(tzinfo=self.tz).astimezone(UTC)).astimezone(self.tz).replace(tzinfo=None) != wall:
            wall = wall.replace(second=0) + _MINUTE
        return moment

    def _walk(self, start: datetime) -> CronSim:
        """Given six fields, the library has no rules of its own for clocks that change."""
        walk: CronSim = _library().CronSim(" ".join(self._fields), start)
        return walk

    @cached_property
    def _fields(self) -> list[str]:
        fields = NICKNAMES.get(self.expression.strip().lower(), self.expression).split()
        return ["0", *fields] if len(fields) == len(FIELDS) - 1 else fields

    @cached_property
    def _is_for_every_hour(self) -> bool:
        return len(self._walk(datetime.now(UTC)).hours) == HOURS

    def _check_fields(self) -> None:
        fields, text = self._fields, self.expression
        if len(fields) != len(FIELDS):
            raise InvalidOption(f"cron must have five fields, or six with seconds first, got {text!r}")
        try:
            self._walk(datetime.now(UTC))
        except _library().CronSimError as error:
            name = str(error).removeprefix("Bad ")
            raise InvalidOption(
                f"the {name} of cron is not valid, got {fields[FIELDS.index(name)]!r} in {text!r}"
            ) from error


def zone_of(name: object) -> ZoneInfo:
    if not isinstance(name, str):
        raise InvalidType(f"tz must be the name of a time zone like Europe/Paris, got {brief(name)}")
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise InvalidOption(
            f"tz must be the name of a time zone like Europe/Paris, got {brief(name)}; "
            "on a system that knows no zones, pip install tzdata"
        ) from error


def _library() -> ModuleType:
    try:
        return importlib.import_module("cronsim")
    except ImportError as error:
        raise MissingExtra('cron expressions need a library that is not here; pip install "pgwerk[cron]"') from error
