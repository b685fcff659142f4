"""Every setting once: its meaning, its default, its environment name; the command line is made from this list."""

from __future__ import annotations

import math
import os
from dataclasses import Field, dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Self, get_type_hints

from pgwerk.allow import Allowed, checked
from pgwerk.errors import InvalidOption, InvalidType, brief

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PREFIX = "PGWERK_"
LONGEST_SECONDS = 100 * 366 * 86400  # a century; what lies beyond is a slip, and beyond Postgres's calendar in the end
MOST = 2**31 - 1  # of whatever is counted: an integer of Postgres


class DequeueStrategy(StrEnum):
    """Which of its queues a worker looks into first."""

    Priority = "priority"
    """The highest priority over all queues; the queues by turns where it is the same."""

    RoundRobin = "round_robin"
    """One queue after the other; within a queue the highest priority."""

    Random = "random"
    """Another queue each time, by chance."""


def _setting(
    default: Any, text: str, *, least: float | None = None, most: int | None = None, choices: Sequence[str] = ()
) -> Any:
    return field(default=default, metadata={"text": text, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class WerkConfig:
    dsn: str | None = _setting(None, "where Postgres is: a DSN, or embedded: for a private server")
    schema: str = _setting("pgwerk", "the schema that holds the tables")
    auto_migrate: bool = _setting(True, "bring the schema up to date when an app connects")
    allow: Allowed = _setting(  # noqa: RUF009 - a field, as the others
        None, "functions that may be jobs, by path or with all below a module, like shop.charge,shop.* (unset: any)"
    )
    log_level: str = _setting("info", "how much is logged", choices=("debug", "info", "warning", "error"))
    log_format: str = _setting("text", "how log lines are written", choices=("text", "json"))
    concurrency: int = _setting(10, "jobs that one worker runs at once", least=1)
    worker_type: str = _setting(
        "async", "where handlers run: on an event loop, in threads, in kept processes, or in one for each job",
        choices=("async", "thread", "process", "fork"),
    )  # fmt: skip
    processes: int = _setting(1, "worker processes", least=1)
    max_jobs: int | None = _setting(
        None, "jobs after which a worker process gives way to a fresh one (unset: never)", least=1
    )
    max_memory: int | None = _setting(
        None, "MiB of memory from which on a worker process gives way to a fresh one (unset: never)", least=1
    )
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
    abort_interval: float | None = _setting(
        None,
        "seconds between two looks for aborted jobs without a notification (unset: 10, or 0.5 where none can be heard)",
        least=0.05,
    )
    shutdown_timeout: float = _setting(30.0, "seconds that running jobs get after SIGTERM", least=0)
    sigterm_grace: float = _setting(5.0, "seconds from SIGTERM to SIGKILL for a job's process that has to end", least=0)
    health_port: int | None = _setting(
        None, "port at which a worker answers GET /live and GET /ready (unset: none)", least=1, most=65535
    )
    health_host: str = _setting("127.0.0.1", "address of that port; 0.0.0.0 where probes come from outside")
    dequeue_strategy: DequeueStrategy = _setting(  # noqa: RUF009 - a field, as the others
        DequeueStrategy.Priority, "which queue a worker looks into first", choices=tuple(DequeueStrategy)
    )
    result_ttl: float | None = _setting(
        7 * 86400.0, "seconds for which completed jobs are kept, unless they say so themselves (inf: for ever)", least=0
    )
    failure_ttl: float | None = _setting(
        None, "seconds for which failed and aborted jobs are kept, unless they say so themselves (unset: for ever)",
        least=0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow", checked(self.allow))
        for setting in fields(self):
            value = getattr(self, setting.name)
            if not (value is None and setting.default is None):
                _check(setting, HINTS[setting.name], value)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ, **explicit: Any) -> Self:
        """What is given explicitly, else the environment, else the default."""
        found = {
            setting.name: _read(
                environ_name(setting.name), environment[environ_name(setting.name)], HINTS[setting.name]
            )
            for setting in fields(cls)
            if environ_name(setting.name) in environment
        }
        return cls(**found).changed(**explicit)

    def changed(self, **given: Any) -> Self:
        """With what is given; None means that nothing is said of it."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


HINTS = get_type_hints(WerkConfig)

_ENDLESS = ("result_ttl", "failure_ttl")  # inf: for ever


class _Kind(NamedTuple):
    """What a value of a setting may be, and how it is read."""

    types: tuple[type, ...]
    words: str
    read: Callable[[str], Any]
    most: int | None = None


def _as_bool(text: str) -> bool:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]


def as_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


_BOOL = _Kind((bool,), "true or false", _as_bool)
_COUNT = _Kind((int,), "a whole number", int, MOST)
_SECONDS = _Kind((int, float), "a number", float, LONGEST_SECONDS)
_TEXT = _Kind((str,), "a text", str)
_LIST = _Kind((tuple,), "a list", as_list)
_KINDS: dict[Any, _Kind] = {
    bool: _BOOL, int: _COUNT, int | None: _COUNT, float: _SECONDS, float | None: _SECONDS, Allowed: _LIST,
}  # fmt: skip


def environ_name(setting: str) -> str:
    return PREFIX + setting.upper()


def _check(setting: Field[Any], hint: Any, value: Any) -> None:
    kind, about = _KINDS.get(hint, _TEXT), setting.metadata
    name = f"{environ_name(setting.name)} (the setting {setting.name})"
    fits = isinstance(value, kind.types) and (kind is _BOOL or not isinstance(value, bool))
    if not fits:
        raise InvalidType(f"{name} must be {kind.words}, got {brief(value)}")
    if about["choices"] and value not in about["choices"]:
        raise InvalidOption(f"{name} must be one of {', '.join(about['choices'])}, got {brief(value)}")
    if about["least"] is not None and not value >= about["least"]:
        raise InvalidOption(f"{name} must be at least {about['least']:g}, got {brief(value)}")
    most = about["most"] or kind.most
    if most is not None and value > most and not (value == math.inf and setting.name in _ENDLESS):
        raise InvalidOption(f"{name} must be at most {most}, got {brief(value)}")


def _read(name: str, text: str, hint: Any) -> Any:
    kind = _KINDS.get(hint, _TEXT)
    try:
        return kind.read(text)
    except (KeyError, ValueError) as error:
        raise InvalidOption(f"{name} must be {kind.words}, got {brief(text)}") from error
