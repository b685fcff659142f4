"""Drains: worker processes that empty a queue filled beforehand, and the same statements without Python's part."""

import time
from functools import partial

from harness import actors
from jobs import noop
from place import Figures, Place

from pgwerk import EnqueueParams, Werk


async def drained(place: Place, actor: str, processes: int, *, cold: bool = False) -> Figures:
    """From the word to the last process's end: their interpreters and imports are ready, workers have yet to register.
    Cold: with a checkpoint between enqueueing and draining, as for jobs that had to wait for it.
    """
    filling = await fill(place)
    with actors(processes, actor, place.dsn) as group:
        if cold:
            place.inspector.checkpoint()
        wal = place.inspector.wal_from_here()
        start = time.perf_counter()
        for each in group:
            each.tell()
        for each in group:
            each.hear()
        seconds = time.perf_counter() - start
        draining = wal() / place.jobs.drained
    place.inspector.expect_finished(place.jobs.drained)
    name = f"{actor} {processes}" + " cold" * cold
    return {name: place.jobs.drained / seconds, f"{name} wal": draining, f"{name} filling wal": filling}


async def fill(place: Place) -> float:
    """Bytes of WAL a job."""
    async with Werk(place.dsn) as app:
        place.inspector.checkpoint()
        wal = place.inspector.wal_from_here()
        await app.enqueue_many([EnqueueParams(noop) for _ in range(place.jobs.drained)])
        return wal() / place.jobs.drained


DRAINS = [
    *(partial(drained, actor=actor, processes=count) for count in (1, 2) for actor in ("drain", "raw_drain")),
    partial(drained, actor="drain", processes=1, cold=True),
]
