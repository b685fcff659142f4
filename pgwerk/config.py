"""Every setting once: its meaning, its default, its environment name; the command line is made from this list."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from pgwerk.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "PGWERK_"


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class WerkConfig:
    dsn: str | None = _setting(None, "where Postgres is: a DSN, or embedded: for a private server")
    schema: str = _setting("pgwerk", "the schema that holds the tables")
    auto_migrate: bool = _setting(True, "bring the schema up to date when an app connects")
    log_level: str = _setting("info", "debug, info, warning or error")
    log_format: str = _setting("text", "text or json")
    concurrency: int = _setting(10, "jobs that one worker runs at once")
    processes: int = _setting(1, "worker processes")
    listen: bool = _setting(True, "hear of new jobs by LISTEN (off: by polling alone)")
    poll_interval: float | None = _setting(
        None,
        "seconds between two looks for work without a notification (unset: 10, or 1 where none can be heard)",
    )
    heartbeat_interval: float = _setting(2.0, "seconds between two beats; after five without one a worker is dead")
    sweep_interval: float = _setting(5.0, "seconds between two rounds of maintenance")
    shutdown_timeout: float = _setting(30.0, "seconds that running jobs get after SIGTERM")

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
        return cls(**found | {name: value for name, value in explicit.items() if value is not None})


def environ_name(setting: str) -> str:
    return PREFIX + setting.upper()


def _parsed(name: str, text: str, hint: Any) -> Any:
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
