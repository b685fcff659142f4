"""What a handler is told about its surroundings, if its first parameter is `ctx` or a `Context`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgwerk.app import Werk
    from pgwerk.job import Job
    from pgwerk.worker.worker import AsyncWorker


@dataclass(slots=True)
class Context:
    app: Werk
    """Connected: a handler can enqueue more jobs."""

    worker: AsyncWorker

    job: Job

    exception: BaseException | None = None
    """What the attempt raised, for those who look at it afterwards."""
