"""Ending jobs outside a worker's exchange: by people, by maintenance, by an enqueue that comes after a failure."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from pgwerk.execution import Outcome
from pgwerk.store.ending import Ended, EndingStore
from pgwerk.store.maintenance import BATCH

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pgwerk.wire import Session


class Endings:
    def __init__(self, schema: str) -> None:
        self._store = EndingStore(schema)

    async def end(self, session: Session, outcomes: Sequence[Outcome]) -> Ended:
        """Ends these, each where it still is as its outcome says, and step by step whatever can never run then."""
        ended = merged(await session.transact(*self._store.end(outcomes)))
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


def aborts(outcomes: Iterable[Outcome], found: Collection[int]) -> list[Outcome]:
    """Of attempts whose jobs were to come back, and were not let: somebody wants to end them for good. Or they are not
    ours any more, which settling them finds out.
    """
    stayed = [outcome for outcome in outcomes if outcome.returns and outcome.job_id not in found]
    return [outcome.aborted() for outcome in stayed]


def merged(parts: Iterable[Ended]) -> Ended:
    return reduce(or_, parts, Ended())
