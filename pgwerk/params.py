"""What a caller may say of a job."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pgwerk import checks
from pgwerk.errors import InvalidOption, brief

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk.checks import Seconds
    from pgwerk.dependencies import Dependency
    from pgwerk.job import Job

CALLBACKS = ("on_success", "on_failure", "on_stopped")


@dataclass(frozen=True, slots=True)
class Retry:
    """So many attempts in all, and exactly so many seconds before each retry (the last number repeats)."""

    max: int
    intervals: Seconds | Sequence[Seconds] = 0

    def __post_init__(self) -> None:
        checks.attempts("Retry.max", self.max)
        self.seconds()

    def seconds(self) -> list[float]:
        return checks.intervals("Retry.intervals", self.intervals)


@dataclass(frozen=True, slots=True)
class Repeat:
    """So many more runs, each after the success of the one before it, and so many seconds after that: always
    `interval`, or one after the other of `intervals` (the last number repeats).
    """

    times: int
    interval: Seconds = 0
    intervals: Sequence[Seconds] | None = None

    def __post_init__(self) -> None:
        checks.repeats("Repeat.times", self.times)
        checks.seconds("Repeat.interval", self.interval)
        if self.intervals is not None and self.interval:
            raise InvalidOption("Repeat.interval and Repeat.intervals are two ways to say the same, got both; give one")
        self.seconds()

    def seconds(self) -> list[float]:
        if self.intervals is None:
            return checks.intervals("Repeat.interval", self.interval)
        return checks.intervals("Repeat.intervals", self.intervals)


@dataclass(frozen=True, slots=True)
class Callback:
    """A function that is called with the context of a job that has ended, and the seconds that it may take."""

    func: Callable[..., Any] | str
    timeout: Seconds | None = None

    def __post_init__(self) -> None:
        checks.positive("Callback.timeout", self.timeout)


class FailureMode(StrEnum):
    Hold = "hold"
    """A failed job's row stays."""

    Delete = "delete"
    """It goes, once its callbacks have ended."""


@dataclass(slots=True, kw_only=True)
class Options:
    """The control options, each `_name` in `enqueue(…, _name=value)`."""

    queue: str = "default"
    priority: int = 0
    delay: Seconds | None = None
    at: datetime | None = None
    retry: int | Retry = 1
    timeout: Seconds | None = None
    heartbeat: Seconds | None = None
    key: str | None = None
    group: str | None = None
    meta: dict[str, Any] | None = None
    ttl: Seconds | None = None
    result_ttl: Seconds | None = None
    failure_ttl: Seconds | None = None
    failure_mode: FailureMode | str = FailureMode.Hold
    on_success: Callable[..., Any] | str | Callback | None = None
    on_failure: Callable[..., Any] | str | Callback | None = None
    on_stopped: Callable[..., Any] | str | Callback | None = None
    repeat: Repeat | None = None
    depends_on: (
        Job | int | str | Dependency | EnqueueParams | Sequence[Job | int | str | Dependency | EnqueueParams] | None
    ) = None
    """By Job, id, or, in `enqueue_many`, by the `EnqueueParams` of another job of the same call."""


@dataclass(slots=True)
class EnqueueParams(Options):
    """One job to enqueue: the handler, its arguments, and the options without their underscores."""

    func: Callable[..., Any] | str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


OPTIONS = tuple(option.name for option in fields(Options))


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


def _unknown(name: str) -> str:
    if name == "_conn":
        return "_conn is no option of apply and map: they would wait for a transaction that is still open"
    name = brief(name)[1:-1]
    nearest = difflib.get_close_matches(name, [f"_{option}" for option in (*OPTIONS, "conn")], n=1, cutoff=0)
    return f"{name} is no option of a job; did you mean {nearest[0]}? (a handler's own arguments start without _)"
