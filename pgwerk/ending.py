"""Ending jobs outside a worker's exchange: by people, by maintenance, by an enqueue that comes after a failure."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from pgwerk.execution import Outcome
from pgwerk.store.ending import Ended, EndingStore
from pgwerk.store.maintenance import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgwerk.wire import Session


class Endings:
    def __init__(self, schema: str) -> None:
        self._store = EndingStore(schema)

    async def end(self, session: Session, outcomes: Sequence[Outcome]) -> Ended:
        """Ends these, each where it still is as its outcome says, and step by step whatever can never run then."""
        ended = merged(await session.transact(*self._store.end(outcomes)))
        if ended.aborted:
            await self.end(session, aborts(ended.aborted))
        await self.cascade(session, ended.doomed)
        return ended

    async def release(self, session: Session, ids: Iterable[int]) -> Ended:
        """Tells those who depend on these jobs, if they have ended."""
        released = await session.run(self._store.release(list(ids)))
        await self.cascade(session, released.doomed)
        return released

    async def free(self, session: Session, ids: Sequence[int]) -> Ended:
        """Lets the next ones of the groups of these jobs run."""
        return await session.run(self._store.free(ids))

    async def cascade(self, session: Session, doomed: Mapping[int, str]) -> None:
        while doomed:
            batch = failures(doomed)
            steps = [
                merged(await session.transact(*self._store.end(batch[start : start + BATCH])))
                for start in range(0, len(batch), BATCH)
            ]
            doomed = merged(steps).doomed


def failures(doomed: Mapping[int, str]) -> list[Outcome]:
    """Of jobs that wait for others in vain."""
    return [Outcome(job_id, None, None, "failed", error=why) for job_id, why in doomed.items()]


def aborts(ids: Iterable[int]) -> list[Outcome]:
    """Of jobs that somebody wanted to end while they ran, and that came back by themselves just then."""
    return [Outcome(job_id, None, None, "aborted", error="aborted while it ran") for job_id in ids]


def merged(parts: Iterable[Ended]) -> Ended:
    return reduce(or_, parts, Ended())
