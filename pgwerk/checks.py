"""Single values that a caller may give, each refused with its name, what it was, and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pgwerk.config import LONGEST_SECONDS, MOST
from pgwerk.errors import InvalidOption, InvalidType, NotSerializable, brief
from pgwerk.serializers import JSONSerializer

LONGEST_NAME = 255  # characters
PRIORITIES = range(-32768, 32768)
LARGEST_ID = 2**63 - 1

_JSON = JSONSerializer()

Seconds = int | float | timedelta


def text(option: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidType(f"{option} must be a text, got {brief(value)}")
    if not _is_storable(value):
        raise InvalidOption(f"{option} must be a text that Postgres can store, got {brief(value)}")
    return value


def name(option: str, value: object) -> str:
    if isinstance(value, str) and not 1 <= len(value) <= LONGEST_NAME:
        raise InvalidOption(f"{option} must have 1 to {LONGEST_NAME} characters, got {len(value)}")
    return text(option, value)


def _is_storable(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def flag(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidType(f"{option} must be True or False, got {brief(value)}")
    return value


def choice(option: str, choices: type[StrEnum], value: object) -> str:
    if not isinstance(value, str) or value not in tuple(choices):
        raise InvalidOption(f"{option} must be one of {', '.join(choices)}, got {brief(value)}")
    return str(value)


def whole(option: str, value: object, words: str = "an int") -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"{option} must be {words}, got {brief(value)}")
    return value


def count(option: str, value: object, least: int, most: int = MOST) -> int:
    if not least <= (number := whole(option, value)) <= most:
        raise InvalidOption(f"{option} must be from {least} to {most}, got {brief(value)}")
    return number


def priority(value: object) -> int:
    return count("_priority", value, PRIORITIES[0], PRIORITIES[-1])


def attempts(option: str, value: object) -> int:
    number = whole(option, value, "a number of attempts or a Retry")
    if number > MOST:
        raise InvalidOption(f"{option} must be at most {MOST}, got {brief(value)}")
    if number < 1:
        raise InvalidOption(f"{option} counts the first attempt too and must be at least 1, got {brief(value)}")
    return number


def repeats(option: str, value: object) -> int:
    if not 1 <= (number := whole(option, value)) <= MOST:
        raise InvalidOption(
            f"{option} counts the runs after the first and must be from 1 to {MOST}, got {brief(value)}"
        )
    return number


def when(delay: Seconds | None, at: datetime | None) -> dict[str, float | str | None]:
    if delay is not None and at is not None:
        raise InvalidOption("_delay and _at are two ways to say the same, got both; give one")
    return {
        "delay": None if delay is None else seconds("_delay", delay),
        "at": None if at is None else moment("_at", at).isoformat(),
    }


def moment(option: str, at: object) -> datetime:
    """In UTC: what lies outside of its calendar could be written, and never be read again."""
    if not isinstance(at, datetime):
        raise InvalidType(f"{option} must be a datetime, got {brief(at)}")
    try:
        is_naive = at.utcoffset() is None
        in_utc = at if is_naive else at.astimezone(UTC)
    except OverflowError as error:
        raise InvalidOption(f"{option} must lie in the years 1 to 9999 of UTC, got {at.isoformat()}") from error
    except Exception as error:  # whatever a time zone of the user's own does
        raise InvalidOption(f"{option} has a time zone that fails with {brief(error)}") from error
    if is_naive:
        raise InvalidOption(
            f"{option} must know its time zone, got the naive {at.isoformat()}; add tzinfo=timezone.utc"
        )
    return in_utc


def meta(option: str, value: object) -> bytes:
    """As JSON, whatever arguments are written in: it is for people and queries."""
    if not isinstance(value, dict):
        raise InvalidType(f"{option} must be a dict, got {brief(value)}")
    try:
        return _JSON.dumps(value)
    except NotSerializable as error:
        raise NotSerializable(f"{option} cannot be stored: {error}") from error


def several(option: str, given: object) -> list[Any]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidType(f"{option} must be a list, got {brief(given)}")
    return list(given)


def positive(option: str, value: Seconds | None) -> float | None:
    if value is None:
        return None
    number: object = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, int | float) and not isinstance(number, bool) and number <= 0:
        raise InvalidOption(f"{option} must be more than 0 seconds, got {brief(value)}")
    return seconds(option, number)


def seconds(option: str, value: object, least: float = 0) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidType(f"{option} must be seconds (a number or a timedelta), got {brief(value)}")
    if not least <= value <= LONGEST_SECONDS:
        raise InvalidOption(f"{option} must be from {least} to {LONGEST_SECONDS} seconds, got {brief(value)}")
    return float(value)


def days(option: str, value: object) -> float:
    """In seconds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidType(f"{option} must be a number, got {brief(value)}")
    if not value >= 0:
        raise InvalidOption(f"{option} must be at least 0, got {brief(value)}")
    return float(min(value * 86400, LONGEST_SECONDS))


def intervals(option: str, value: Seconds | Sequence[Seconds]) -> list[float]:
    each_one = list(value) if isinstance(value, list | tuple) else [value]
    if not each_one:
        raise InvalidOption(f"{option} is empty; give seconds, or leave it out for no delay")
    return [seconds(option, each) for each in each_one]
