"""What a caller may say of a job, and everything that is refused before anything is written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from pgwerk.errors import InvalidOption, InvalidType, NotSerializable
from pgwerk.handlers import Handler, handler_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk.serializers import Serializer

LONGEST_NAME = 255  # characters
PRIORITIES = range(-32768, 32768)
MOST_ATTEMPTS = 2**31 - 1
LONGEST_SECONDS = 100 * 366 * 86400  # a century; what lies beyond is a slip, and beyond Postgres's calendar in the end

Seconds = int | float | timedelta


@dataclass(frozen=True, slots=True)
class Retry:
    """So many attempts in all, and exactly so many seconds before each retry (the last number repeats)."""

    max: int
    intervals: Seconds | Sequence[Seconds] = 0

    def __post_init__(self) -> None:
        _attempts("Retry.max", self.max)
        self.seconds()

    def seconds(self) -> list[float]:
        given = self.intervals
        several = list(given) if isinstance(given, list | tuple) else [given]
        if not several:
            raise InvalidOption("Retry.intervals is empty; give seconds, or leave it out for no delay")
        return [_seconds("Retry.intervals", each, least=0) for each in several]


@dataclass(slots=True, kw_only=True)
class _Options:
    """The control options, each `_name` in `enqueue(…, _name=value)`."""

    queue: str = "default"
    priority: int = 0
    delay: Seconds | None = None
    at: datetime | None = None
    retry: int | Retry = 1
    timeout: Seconds | None = None
    key: str | None = None
    meta: dict[str, Any] | None = None
    ttl: Seconds | None = None


@dataclass(slots=True)
class EnqueueParams(_Options):
    """One job to enqueue: the handler, its arguments, and the options without their underscores."""

    func: Callable[..., Any] | str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


OPTIONS = tuple(option.name for option in fields(_Options))


@dataclass(frozen=True, slots=True)
class Spec:
    """A job that can be written: its columns in the form that the database reads, and its payload as given."""

    columns: dict[str, Any]
    payload: dict[str, Any]
    meta: dict[str, Any] | None


def split_options(keywords: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `enqueue` was given by name: the handler's own arguments, and the options without their underscores."""
    arguments, options = {}, {}
    for name, value in keywords.items():
        if not name.startswith("_"):
            arguments[name] = value
        elif name[1:] in OPTIONS:
            options[name[1:]] = value
        else:
            raise InvalidOption(_unknown(name))
    return arguments, options


def specify(params: EnqueueParams, serializer: Serializer) -> Spec:
    """Everything about a job that can be known to be wrong is found here, before anything is written."""
    if not isinstance(params, EnqueueParams):
        raise InvalidType(f"a job to enqueue is an EnqueueParams, got {params!r:.80}")
    payload = _arguments(params)
    retry = _retry(params.retry)
    columns = {
        "function": _function(params),
        "payload": orjson.Fragment(_payload(payload, serializer)),
        "queue": _name("_queue", params.queue),
        "priority": _priority(params.priority),
        "key": None if params.key is None else _name("_key", params.key),
        "meta": _meta(params.meta, serializer),
        "max_attempts": retry.max if isinstance(retry, Retry) else retry,
        "retry_intervals": retry.seconds() if isinstance(retry, Retry) else None,
        "timeout": _positive("_timeout", params.timeout),
        "ttl": _positive("_ttl", params.ttl),
        **_when(params.delay, params.at),
    }
    return Spec(columns, payload, params.meta)


def _arguments(params: EnqueueParams) -> dict[str, Any]:
    args: object = params.args
    kwargs: object = params.kwargs
    if not isinstance(args, Sequence) or isinstance(args, str | bytes):
        raise InvalidType(f"args must be a list or tuple, got {args!r:.80}")
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise InvalidType(f"kwargs must be a dict by name, got {kwargs!r:.80}")
    return {"args": list(args), "kwargs": dict(kwargs)}


def _function(params: EnqueueParams) -> str:
    handler = handler_of(params.func)
    if not isinstance(handler, Handler):
        return handler
    handler.check(params.args, params.kwargs)
    return handler.path


def _payload(payload: dict[str, Any], serializer: Serializer) -> bytes:
    try:
        return serializer.dumps(payload)
    except NotSerializable:
        for name, value in [*enumerate(payload["args"], 1), *payload["kwargs"].items()]:
            _check_argument(name, value, serializer)
        raise


def _check_argument(name: int | str, value: Any, serializer: Serializer) -> None:
    try:
        serializer.dumps(value)
    except NotSerializable as error:
        which = f"positional argument {name}" if isinstance(name, int) else f"argument {name!r}"
        raise NotSerializable(f"{which} cannot be stored: {error}") from error


def _name(option: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidType(f"{option} must be a text, got {value!r:.80}")
    if not 1 <= len(value) <= LONGEST_NAME:
        raise InvalidOption(f"{option} must have 1 to {LONGEST_NAME} characters, got {len(value)}")
    if "\0" in value or not _is_unicode(value):
        raise InvalidOption(f"{option} must be a text that Postgres can store, got {value!r:.80}")
    return value


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _priority(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"_priority must be an int, got {value!r:.80}")
    if value not in PRIORITIES:
        raise InvalidOption(f"_priority must be from {PRIORITIES[0]} to {PRIORITIES[-1]}, got {value}")
    return value


def _retry(value: object) -> int | Retry:
    return value if isinstance(value, Retry) else _attempts("_retry", value)


def _attempts(option: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"{option} must be a number of attempts or a Retry, got {value!r:.80}")
    if value > MOST_ATTEMPTS:
        raise InvalidOption(f"{option} must be at most {MOST_ATTEMPTS}, got {value}")
    if value < 1:
        raise InvalidOption(f"{option} counts the first attempt too and must be at least 1, got {value}")
    return value


def _meta(value: object, serializer: Serializer) -> orjson.Fragment | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidType(f"_meta must be a dict, got {value!r:.80}")
    try:
        return orjson.Fragment(serializer.dumps(value))
    except NotSerializable as error:
        raise NotSerializable(f"_meta cannot be stored: {error}") from error


def _when(delay: Seconds | None, at: datetime | None) -> dict[str, float | str | None]:
    if delay is not None and at is not None:
        raise InvalidOption("_delay and _at are two ways to say the same, got both; give one")
    if at is not None and not isinstance(at, datetime):
        raise InvalidType(f"_at must be a datetime, got {at!r:.80}")
    if at is not None and at.utcoffset() is None:
        raise InvalidOption(f"_at must know its time zone, got the naive {at.isoformat()}; add tzinfo=timezone.utc")
    if at is not None and not _is_in_calendar(at):
        raise InvalidOption(f"_at must lie in the years 1 to 9999 of UTC, got {at.isoformat()}")
    return {
        "delay": None if delay is None else _seconds("_delay", delay, least=0),
        "at": None if at is None else at.isoformat(),
    }


def _is_in_calendar(at: datetime) -> bool:
    """What lies outside could be written, and never be read again."""
    try:
        at.astimezone(UTC)
    except OverflowError:
        return False
    return True


def _positive(option: str, value: Seconds | None) -> float | None:
    if value is None:
        return None
    number: object = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, int | float) and not isinstance(number, bool) and number <= 0:
        raise InvalidOption(f"{option} must be more than 0 seconds, got {value!r}")
    return _seconds(option, number, least=0)


def _seconds(option: str, value: object, least: float) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidType(f"{option} must be seconds (a number or a timedelta), got {value!r:.80}")
    if not least <= value <= LONGEST_SECONDS:
        raise InvalidOption(f"{option} must be from {least} to {LONGEST_SECONDS} seconds, got {value}")
    return float(value)


def _unknown(name: str) -> str:
    if name == "_conn":
        return "_conn is no option of apply and map: they would wait for a transaction that is still open"
    nearest = difflib.get_close_matches(name, [f"_{option}" for option in (*OPTIONS, "conn")], n=1, cutoff=0)
    return f"{name} is no option of a job; did you mean {nearest[0]}? (a handler's own arguments start without _)"
