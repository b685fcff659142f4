"""Every setting once: its meaning, its default, its environment name; the command line is made from this list."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from pgwerk.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "PGWERK_"


def _setting(default: Any, text: str, *, least: float | None = None) -> Any:
    return field(default=default, metadata={"text": text, "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class WerkConfig:
    dsn: str | None = _setting(None, "where Postgres is: a DSN, or embedded: for a private server")
    schema: str = _setting("pgwerk", "the schema that holds the tables")
    auto_migrate: bool = _setting(True, "bring the schema up to date when an app connects")
    log_level: str = _setting("info", "debug, info, warning or error")
    log_format: str = _setting("text", "text or json")
    concurrency: int = _setting(10, "jobs that one worker runs at once", least=1)
    processes: int = _setting(1, "worker processes", least=1)
    listen: bool = _setting(True, "hear of new jobs by LISTEN (off: by polling alone)")
    poll_interval: float | None = _setting(
        None,
        "seconds between two looks for work without a notification (unset: 10, or 1 where none can be heard)",
        least=0.01,
    )
    heartbeat_interval: float = _setting(
        2.0, "seconds between two beats; after five without one a worker is dead", least=0.05
    )
    sweep_interval: float = _setting(5.0, "seconds between two rounds of maintenance", least=0.1)
    shutdown_timeout: float = _setting(30.0, "seconds that running jobs get after SIGTERM", least=0)

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, least = getattr(self, setting.name), setting.metadata["least"]
            if least is not None and value is not None and not (least <= value < math.inf):
                name = environ_name(setting.name)
                raise InvalidOption(f"{name} (the setting {setting.name}) must be at least {least:g}, got {value}")

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ, **explicit: Any) -> Self:
        """What is given explicitly, else the environment, else the default."""
        hints = get_type_hints(cls)
        found = {
            setting.name: _parsed(
                environ_name(setting.name), environment[environ_name(setting.name)], hints[setting.name]
            )
            for setting in fields(cls)
            if environ_name(setting.name) in environment
        }
        return cls(**found).changed(**explicit)

    def changed(self, **given: Any) -> Self:
        """With what is given; None means that nothing is said of it."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


def environ_name(setting: str) -> str:
    return PREFIX + setting.upper()


def _parsed(name: str, text: str, hint: Any) -> Any:
    value = _read(name, text, hint)
    check, words = _LIMITS.get(name, (_anything, ""))
    if not check(value):
        raise InvalidOption(f"{name} must be {words}, got {text}")
    return value


def _anything(_: Any) -> bool:
    return True


_LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "PGWERK_LOG_LEVEL": (("debug", "info", "warning", "error").__contains__, "debug, info, warning or error"),
    "PGWERK_LOG_FORMAT": (("text", "json").__contains__, "text or json"),
}


def _read(name: str, text: str, hint: Any) -> Any:
    try:
        if hint is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if hint is int:
            return int(text)
        if hint in (float, float | None):
            return float(text)
    except (KeyError, ValueError) as error:
        kind = {bool: "true or false", int: "a whole number"}.get(hint, "a number")
        raise InvalidOption(f"{name} must be {kind}, got {text!r}") from error
    return text
