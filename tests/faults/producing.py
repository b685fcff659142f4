"""A producer that notes what it asks for, and what it knows of the outcome."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg

from pgwerk import Dependency, EnqueueParams, Job, Retry
from pgwerk.errors import ServerUnreachable
from pgwerk.params import CALLBACKS, OPTIONS
from pgwerk.wire import Disconnected
from tests.faults.history.facts import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk import Werk
    from tests.faults.history.log import Log

# On the way, or by a server that is about to go: nobody knows what was done. What is refused for itself is a bug.
BROKEN = (Disconnected, psycopg.OperationalError, psycopg.InternalError)


class Producer:
    """Its name is unlike those of all others who note in the same log."""

    def __init__(self, app: Werk, log: Log, name: str) -> None:
        self._app, self._log, self._name = app, log, name
        self._calls = count(1)

    async def enqueue(self, *params: EnqueueParams) -> list[Job | None] | None:
        """In one call; None: its outcome is unknown."""
        call = self._ask(params)
        try:
            jobs = await self._send(params)
        except BROKEN:
            return None
        except ServerUnreachable:
            self._log.rolled_back(call)  # it was never sent
            return None
        self._log.committed(call, _ids(jobs))
        return jobs

    async def enqueue_with(self, dsn: str, *params: EnqueueParams, commits: bool) -> list[Job | None] | None:
        """In a transaction of the producer's own, which is rolled back where it does not commit."""
        call = self._ask(params)
        try:
            async with await psycopg.AsyncConnection.connect(dsn) as connection:
                jobs = await self._app.enqueue_many(params, _conn=connection)
                if not commits:
                    await connection.rollback()
        except BROKEN:
            if not commits:
                self._log.rolled_back(call)
            return None
        if commits:
            self._log.committed(call, _ids(jobs))
            return jobs
        self._log.rolled_back(call)
        return None

    async def _send(self, params: Sequence[EnqueueParams]) -> list[Job | None]:
        """A single one takes the way of single ones."""
        if len(params) > 1:
            return await self._app.enqueue_many(params)
        (single,) = params
        options = {f"_{option}": getattr(single, option) for option in OPTIONS}
        return [await self._app.enqueue(single.func, *single.args, **single.kwargs, **options)]

    def _ask(self, params: Sequence[EnqueueParams]) -> str:
        call = f"{self._name}/{next(self._calls)}"
        for place, each in enumerate(params, 1):
            each.meta = {**(each.meta or {}), "name": f"{call}.{place}"}
        self._log.asked(call, [asdict(asked(each)) for each in params])
        return call


def _ids(jobs: Sequence[Job | None]) -> list[int | None]:
    return [None if job is None else job.id for job in jobs]


def asked(params: EnqueueParams) -> Asked:
    return Asked(
        name=_name(params),
        queue=params.queue,
        priority=params.priority,
        group=params.group,
        key=params.key,
        attempts=params.retry.max if isinstance(params.retry, Retry) else params.retry,
        repeats=params.repeat.times if params.repeat else 0,
        on=dict(map(_edge, _listed(params.depends_on))),
        told=[name for name in CALLBACKS if getattr(params, name) is not None],
        is_later=params.delay is not None or params.at is not None,
    )


def _listed(depends_on: Any) -> Sequence[Any]:
    if depends_on is None:
        return ()
    return depends_on if isinstance(depends_on, list | tuple) else [depends_on]


def _edge(on: Dependency | EnqueueParams | Job) -> tuple[str, bool]:
    if isinstance(on, Dependency):
        return _name(on.job), on.allow_failure
    return _name(on), False


def _name(job: Any) -> str:
    """Of a job or its parameters, once somebody has asked for it."""
    return str(job.meta["name"])
