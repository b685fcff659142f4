"""Single values that a caller may give, each refused with its name, what it was, and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pgwerk.config import LONGEST_SECONDS, MOST
from pgwerk.errors import InvalidOption, InvalidType, brief

LONGEST_NAME = 255  # characters
PRIORITIES = range(-32768, 32768)

Seconds = int | float | timedelta


def name(option: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidType(f"{option} must be a text, got {brief(value)}")
    if not 1 <= len(value) <= LONGEST_NAME:
        raise InvalidOption(f"{option} must have 1 to {LONGEST_NAME} characters, got {len(value)}")
    if "\0" in value or not _is_unicode(value):
        raise InvalidOption(f"{option} must be a text that Postgres can store, got {brief(value)}")
    return value


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def priority(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"_priority must be an int, got {brief(value)}")
    if value not in PRIORITIES:
        raise InvalidOption(f"_priority must be from {PRIORITIES[0]} to {PRIORITIES[-1]}, got {brief(value)}")
    return value


def attempts(option: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"{option} must be a number of attempts or a Retry, got {brief(value)}")
    if value > MOST:
        raise InvalidOption(f"{option} must be at most {MOST}, got {brief(value)}")
    if value < 1:
        raise InvalidOption(f"{option} counts the first attempt too and must be at least 1, got {brief(value)}")
    return value


def repeats(option: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidType(f"{option} must be an int, got {brief(value)}")
    if not 1 <= value <= MOST:
        raise InvalidOption(
            f"{option} counts the runs after the first and must be from 1 to {MOST}, got {brief(value)}"
        )
    return value


def when(delay: Seconds | None, at: datetime | None) -> dict[str, float | str | None]:
    if delay is not None and at is not None:
        raise InvalidOption("_delay and _at are two ways to say the same, got both; give one")
    if at is not None and not isinstance(at, datetime):
        raise InvalidType(f"_at must be a datetime, got {brief(at)}")
    if at is not None and at.utcoffset() is None:
        raise InvalidOption(f"_at must know its time zone, got the naive {at.isoformat()}; add tzinfo=timezone.utc")
    if at is not None and not _is_in_calendar(at):
        raise InvalidOption(f"_at must lie in the years 1 to 9999 of UTC, got {at.isoformat()}")
    return {
        "delay": None if delay is None else seconds("_delay", delay),
        "at": None if at is None else at.isoformat(),
    }


def _is_in_calendar(at: datetime) -> bool:
    """What lies outside could be written, and never be read again."""
    try:
        at.astimezone(UTC)
    except OverflowError:
        return False
    return True


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


def intervals(option: str, value: Seconds | Sequence[Seconds]) -> list[float]:
    several = list(value) if isinstance(value, list | tuple) else [value]
    if not several:
        raise InvalidOption(f"{option} is empty; give seconds, or leave it out for no delay")
    return [seconds(option, each) for each in several]
