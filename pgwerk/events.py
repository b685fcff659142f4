"""What happens, as data. The logic says it here once; logs and metrics listen."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgwerk.errors import headline

if TYPE_CHECKING:
    from collections.abc import Callable

_subscribers: list[Callable[[Event], None]] = []


@dataclass(frozen=True, slots=True)
class Event:
    pass


@dataclass(frozen=True, slots=True)
class WorkerStarted(Event):
    worker_id: int
    name: str
    kind: str
    queues: str
    strategy: str
    concurrency: int


@dataclass(frozen=True, slots=True)
class WorkerStopping(Event):
    name: str
    reason: str
    running: int
    patience: float
    """Seconds that the running jobs get."""


@dataclass(frozen=True, slots=True)
class WorkerStopped(Event):
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class WornUnused(Event):
    """Before it has run a job: another worker would fare no better."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerDeclaredDead(Event):
    """Said by the one who declared it."""

    name: str
    silent_for: float


@dataclass(frozen=True, slots=True)
class LivenessLost(Event):
    """Said by the worker that finds itself declared dead; it stops its attempts and starts anew."""

    name: str
    running: int


@dataclass(frozen=True, slots=True)
class OutageBegan(Event):
    name: str
    error: str


@dataclass(frozen=True, slots=True)
class OutageEnded(Event):
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ListenerDeaf(Event):
    name: str


@dataclass(frozen=True, slots=True)
class LoopBlocked(Event):
    name: str
    seconds: float
    stack: str


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    job_id: int
    function: str
    attempt: int
    max_attempts: int
    error: str
    retry_in: float | None
    """Seconds; None: no attempt is left."""

    @property
    def next(self) -> str:
        return "no attempt is left" if self.retry_in is None else f"next in {self.retry_in:.1f} s"

    @property
    def headline(self) -> str:
        return headline(self.error)


@dataclass(frozen=True, slots=True)
class ThreadStuck(Event):
    """A thread cannot be killed: its attempt is over, and the slot stays taken until it returns."""

    job_id: int
    function: str | None
    timeout: float | None


@dataclass(frozen=True, slots=True)
class ClaimLost(Event):
    """A result came too late: the job had been taken from this worker."""

    job_id: int


@dataclass(frozen=True, slots=True)
class ResultRefused(Event):
    """The server did not take a result; the attempt fails with the server's words."""

    job_id: int
    error: str


@dataclass(frozen=True, slots=True)
class HookFailed(Event):
    """Something that a program wanted to be called raised; what it was called for goes on."""

    hook: str
    about: str
    error: str


@dataclass(frozen=True, slots=True)
class JobsRescued(Event):
    requeued: int
    failed: int


@dataclass(frozen=True, slots=True)
class SchedulerAway(Event):
    name: str
    error: str


@dataclass(frozen=True, slots=True)
class SchedulerBack(Event):
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ScheduleUnfit(Event):
    """What stands in its row can be read by nobody."""

    name: str
    error: str


@dataclass(frozen=True, slots=True)
class ScheduleLeft(Event):
    """This process cannot fire it, another one may. Said once."""

    name: str
    error: str


@dataclass(frozen=True, slots=True)
class ScheduleRefused(Event):
    """A hook of the program, or the server, did not take the jobs of a tick."""

    name: str
    error: str


@dataclass(frozen=True, slots=True)
class DutyFailed(Event):
    duty: str
    error: str


def subscribe(subscriber: Callable[[Event], None]) -> Callable[[], None]:
    """Returns the way to unsubscribe."""
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber)


def emit(event: Event) -> None:
    for subscriber in _subscribers:
        try:
            subscriber(event)
        except Exception:
            logging.getLogger("pgwerk").exception("a subscriber failed on %r; the others go on", event)
