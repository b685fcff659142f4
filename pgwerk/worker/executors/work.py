"""From a claimed row to a call of its handler, and from what that gives to bytes: the same in every kind of worker."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pgwerk.context import Context
from pgwerk.errors import HandlerNotFound, NotSerializable
from pgwerk.handlers import find
from pgwerk.job import Job, JobStatus, arguments_in, decoded
from pgwerk.serializers import bounded
from pgwerk.worker.executors.limits import stay_home

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from pgwerk.app import Werk
    from pgwerk.context import WorkerIdentity
    from pgwerk.handlers import Handler
    from pgwerk.serializers import Serializer
    from pgwerk.store.exchange import Claimed
    from pgwerk.wire import Row


class Work(NamedTuple):
    """A claimed job, as whatever runs its handler needs it. It can be pickled."""

    row: Claimed
    worker_id: int
    subject: Row | None = None
    """Of a callback: the job whose end it is told of."""


class Executor(Protocol):
    """Where handlers run."""

    async def run(
        self, work: Work, touch: Callable[[], None], on_stuck: Callable[[asyncio.Future[Any]], None]
    ) -> bytes | None:
        """The handler's result, ready to be stored, or what it raised (`Reported` where that was in another process);
        `JobTimeout` after the job's timeout, `ProcessDied` for a process that ended under it.

        Cancelled, it ends what runs. A thread that cannot be ended is handed to `on_stuck`. `touch` is what
        `ctx.touch` calls, from whatever thread.
        """

    def close(self) -> None:
        """Ends whatever still runs, without waiting for it."""


def call_of(
    work: Work, app: Werk, worker: WorkerIdentity, touch: Callable[[], None]
) -> tuple[Handler, Callable[[], Any]]:
    """Raises `HandlerNotFound`."""
    row = work.row
    if row.function is None or row.payload is None:
        raise HandlerNotFound("the job's row is gone; somebody deleted it by hand")
    handler = find(row.function, app.config.allow)
    if row.callback_of is not None:
        return handler, partial(_at_home, handler.function, context_of(work, app, worker, touch))
    args, kwargs = arguments_in(decoded(row.payload, "payload", row.job_id, app.serializer))
    if handler.takes_context:
        args = (context_of(work, app, worker, touch), *args)
    return handler, partial(_at_home, handler.function, *args, **kwargs)


def _at_home(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    home = os.getpid()
    try:
        return function(*args, **kwargs)
    finally:
        stay_home(home)


def stored(result: Any, work: Work, serializer: Serializer) -> bytes | None:
    """Raises `NotSerializable`."""
    try:
        return None if result is None else bounded(serializer.dumps(result), "results")
    except NotSerializable as error:
        raise NotSerializable(f"the result of {work.row.function} cannot be stored: {error}") from error


def context_of(work: Work, app: Werk, worker: WorkerIdentity, touch: Callable[[], None]) -> Context:
    return Context(app, worker, _job(work, app.serializer), _touch=touch)


def _job(work: Work, serializer: Serializer) -> Job:
    if work.subject is not None:
        return Job.from_row(work.subject, serializer)
    row = work.row
    claimed = {"id": row.job_id, "status": JobStatus.Active, "attempts": row.attempt, "worker_id": work.worker_id}
    return Job.from_row(row._asdict() | claimed, serializer)
