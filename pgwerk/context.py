"""What a handler is told about its surroundings, if its first parameter is `ctx` or a `Context`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgwerk.app import Werk
    from pgwerk.job import Job


class WorkerIdentity(Protocol):
    """What a handler can know of its worker, also from a process of its own."""

    @property
    def id(self) -> int | None:
        """Of this start: a worker that was declared dead and began anew has another."""

    @property
    def name(self) -> str | None: ...

    @property
    def queues(self) -> Sequence[str]: ...


@dataclass(slots=True)
class Context:
    app: Werk
    """Connected: a handler can enqueue more jobs."""

    worker: WorkerIdentity

    job: Job
    """For a callback: the job as it ended."""

    exception: BaseException | None = None
    """What the attempt raised, for those who look at it afterwards."""

    _touch: Callable[[], None] = field(default=lambda: None, repr=False)

    def touch(self) -> None:
        """Renews the sign of life of a job with a `_heartbeat`, at once and without waiting for it."""
        self._touch()
