"""What a caller may say of a schedule, and how it stands in the database."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import orjson

from pgwerk import checks
from pgwerk.cron import Cron, Every, ticks, zone_of
from pgwerk.errors import InvalidOption, NotSerializable, brief, one_line
from pgwerk.handlers import Handler, handler_of
from pgwerk.job import arguments_in
from pgwerk.params import CALLBACKS, OPTIONS, Callback, EnqueueParams, Repeat, Retry
from pgwerk.specifying import specify

if TYPE_CHECKING:
    from pgwerk.allow import Allowed
    from pgwerk.checks import Seconds
    from pgwerk.cron import Rhythm
    from pgwerk.serializers import Serializer

LONGEST_NAME = 200  # characters: the keys of its jobs begin with it
MOST_AT_ONCE = 1000
LATE = timedelta(minutes=1)


class Missed(StrEnum):
    """What becomes of ticks that nobody was there for."""

    Latest = "latest"
    """One job for all of them."""

    All = "all"
    """A job for each of the oldest 1,000; what lies between those and now is passed over."""

    Skip = "skip"
    """No job for what is more than a minute late."""


class Overlap(StrEnum):
    """What a tick does while the last job is still to end."""

    Allow = "allow"
    Skip = "skip"
    Queue = "queue"
    """Its job waits for the end of that one: they are a group."""


@dataclass(slots=True, kw_only=True)
class ScheduleParams(EnqueueParams):
    """A job that is to come again and again: when, and (as in `EnqueueParams`) what."""

    name: str | None = None
    """Without: the path of the function."""

    cron: str | None = None
    interval: Seconds | None = None
    tz: str = "UTC"
    """In which `cron` is read."""

    missed: Missed | str = Missed.Latest
    overlap: Overlap | str = Overlap.Allow
    jitter: Seconds = 0
    """Each job is due up to so many seconds later than its tick."""

    paused: bool = False


_SAID = tuple(each.name for each in fields(ScheduleParams))
_NOT_ITS_OWN = ("key", "at", "depends_on")
_UNCHOSEN = {option: getattr(EnqueueParams("some.job"), option) for option in OPTIONS if option not in _NOT_ITS_OWN}


def params_of(func: Callable[..., Any] | str, said: Mapping[str, Any]) -> ScheduleParams:
    """Options may keep the underscore that they have in `enqueue`."""
    words = {name.removeprefix("_"): value for name, value in said.items()}
    if unknown := words.keys() - set(_SAID):
        wrong = min(unknown)
        nearest = difflib.get_close_matches(wrong, _SAID, n=1, cutoff=0)
        raise InvalidOption(
            f"{wrong} is no option of a schedule; did you mean {nearest[0]}? (arguments go into kwargs)"
        )
    return ScheduleParams(func, **words)


def specify_schedule(params: ScheduleParams, serializer: Serializer, allowed: Allowed = None) -> dict[str, Any]:
    """The columns, but for its owner and its first tick. Everything that can be known to be wrong is found here."""
    _check(params)
    spec = specify(params, serializer, allowed)
    function = spec.columns["function"]
    interval = None if params.interval is None else checks.seconds("interval", params.interval, least=1)
    rhythm_of(params.cron, interval, params.tz, datetime.now(UTC))
    return {
        "name": _name(function if params.name is None else params.name),
        "function": function,
        "payload": spec.text,
        "options": _in_json(params, spec.columns.get("meta")),
        "cron": params.cron,
        "interval_secs": interval,
        "tz": zone_of(params.tz).key,
        "missed": checks.choice("missed", Missed, params.missed),
        "overlap": checks.choice("overlap", Overlap, params.overlap),
        "jitter_secs": checks.seconds("jitter", params.jitter),
        "is_paused": checks.flag("paused", params.paused),
    }


def rhythm_of(cron: str | None, interval: float | None, zone: str, start: datetime) -> Rhythm:
    """An interval is counted from `start` on."""
    match cron, interval:
        case None, int() | float():
            return Every(interval, start)
        case _, None if cron is not None:
            return Cron(cron, zone)
        case _:
            raise InvalidOption(
                f"a schedule is due by cron or by interval, one of them, got {brief(cron)} and {brief(interval)}"
            )


def _check(params: ScheduleParams) -> None:
    for option in _NOT_ITS_OWN:
        if (value := getattr(params, option)) is not None:
            raise InvalidOption(
                f"each job of a schedule has its own {option}, got {brief(value)} for all; leave it out"
            )
    if checks.choice("overlap", Overlap, params.overlap) == Overlap.Queue and params.group is not None:
        raise InvalidOption(
            f"overlap=queue makes the schedule's jobs a group of their own, got the group {brief(params.group)}"
        )


def _name(name: object) -> str:
    text = checks.name("a schedule's name", name)
    if len(text) > LONGEST_NAME:
        raise InvalidOption(f"a schedule's name must have 1 to {LONGEST_NAME} characters, got {len(text)}")
    return text


def _in_json(params: ScheduleParams, meta: object) -> bytes:
    """What was chosen, in the words of `EnqueueParams`."""
    chosen = {option: getattr(params, option) for option in _UNCHOSEN} | {"meta": meta}
    return orjson.dumps({k: v for k, v in chosen.items() if v is not _UNCHOSEN[k]}, default=_as_json)


def _as_json(value: Any) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float):  # of a class of its own
        return float(value)
    handler = handler_of(value)
    return handler.path if isinstance(handler, Handler) else handler


def _from_json(text: bytes) -> dict[str, Any]:
    kinds: dict[str, Callable[..., Any]] = {"retry": Retry, "repeat": Repeat, **dict.fromkeys(CALLBACKS, Callback)}
    options = orjson.loads(text)
    return {k: kinds[k](**v) if k in kinds and isinstance(v, dict) else v for k, v in options.items()}


def _read(row: Mapping[str, Any], name: str, reader: Callable[[Any], Any], *, is_one_of_many: bool) -> Any:
    try:
        return reader(row[name])
    except Exception as error:
        unread = NotSerializable(f"the {name} of the schedule {row['name']!r} cannot be read: {one_line(error)}")
        if not is_one_of_many:
            raise unread from error
        return unread


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    name: str
    owner: str | None
    """The scheduler whose code registered it; None: it was made at run time."""

    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    """Of its jobs, as `EnqueueParams` takes them."""

    cron: str | None
    interval: float | None
    """Seconds."""

    tz: str
    missed: Missed
    overlap: Overlap
    jitter: float
    """Seconds."""

    is_paused: bool
    next_run_at: datetime | None
    """None: never again."""

    last_run_at: datetime | None
    """The tick of its last job."""

    last_job_id: int | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any], serializer: Serializer, *, is_one_of_many: bool = False) -> Self:
        """What cannot be read raises `NotSerializable`; in one of many, that stands in its place."""
        read = partial(_read, row, is_one_of_many=is_one_of_many)
        payload = read("payload", lambda text: arguments_in(serializer.loads(text)))
        arguments: tuple[Any, Any] = (payload, payload) if isinstance(payload, NotSerializable) else payload
        return cls(
            args=arguments[0], kwargs=arguments[1], options=read("options", _from_json),
            interval=row["interval_secs"], jitter=row["jitter_secs"], missed=Missed(row["missed"]),
            overlap=Overlap(row["overlap"]), **{name: row[name] for name in _AS_STORED},
        )  # fmt: skip

    def changed(self, said: Mapping[str, Any]) -> tuple[Callable[..., Any] | str, dict[str, Any]]:
        """What makes it anew, with what is said instead: its function, and all else. A cron takes the place of an
        interval, and the other way round.
        """
        words = {
            "name": self.name, "args": self.args, "kwargs": self.kwargs, "cron": self.cron, "interval": self.interval,
            "tz": self.tz, "missed": self.missed, "overlap": self.overlap, "jitter": self.jitter, **self.options,
        }  # fmt: skip
        rivals = {"cron": "interval", "interval": "cron"}
        given = {**{rivals[word]: None for word in rivals.keys() & said.keys()}, **said}
        function = given.pop("func", self.function)
        return function, words | {word.removeprefix("_"): value for word, value in given.items()}

    def tick_after(self, moment: datetime) -> datetime | None:
        return self._rhythm.after(moment)

    def due(self, now: datetime, *, is_running: bool = False) -> list[datetime]:
        """The ticks up to now for which there is to be a job."""
        if self.next_run_at is None or self.next_run_at > now or (is_running and self.overlap == Overlap.Skip):
            return []
        if self.missed == Missed.All:
            found = list(islice(ticks(self._rhythm, self.next_run_at, now), MOST_AT_ONCE))
        else:
            last = self._rhythm.last(self.next_run_at, now)
            found = [last] if self.missed == Missed.Latest or now - last <= LATE else []
        return found[-1:] if self.overlap == Overlap.Skip else found

    def job(self, tick: datetime | None = None) -> EnqueueParams:
        """For a tick; or without one, at once."""
        options = dict(self.options)
        delay = checks.seconds("_delay", options.pop("delay", 0))
        if self.overlap == Overlap.Queue:
            options["group"] = f"schedule {self.name}"
        if tick is not None:
            options["key"] = f"schedule {self.name} {tick.isoformat()}"
            options["at"] = tick + timedelta(seconds=delay + random.uniform(0, self.jitter))  # noqa: S311
        return EnqueueParams(self.function, self.args, self.kwargs, **options)

    @property
    def _rhythm(self) -> Rhythm:
        return rhythm_of(self.cron, self.interval, self.tz, self.next_run_at or self.created_at)


_AS_STORED = tuple(
    each.name for each in fields(Schedule)
    if each.name not in {"args", "kwargs", "options", "interval", "jitter", "missed", "overlap"}
)  # fmt: skip
