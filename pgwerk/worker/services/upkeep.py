"""What running attempts need while they run: signs of life for those that promised some, and the wish of somebody to
end them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from pgwerk import events
from pgwerk.errors import ServerUnreachable, one_line
from pgwerk.store.workers import Sign, WorkerStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk.db import Database
    from pgwerk.worker.attempts import Attempts

RETRY = 0.5  # seconds after a look that failed: a sign of life that could not be given is still due
LONGEST = 1.0  # seconds between two looks at what is due here; the database is asked only for what is


class Upkeep:
    """Of one life of a worker. `interval` says how often to ask for aborted jobs without being told of any."""

    def __init__(self, database: Database, worker_id: int, attempts: Attempts, interval: Callable[[], float]) -> None:
        self._database, self._worker_id, self._attempts, self._interval = database, worker_id, attempts, interval
        self._store = WorkerStore(database.schema)
        self._asked_at = time.monotonic()
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Somebody wants to end a job: it may be one of ours."""
        self._asked_at = float("-inf")
        self.look()

    def look(self) -> None:
        """A sign of life may be due."""
        self._told.set()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._told.wait()
            self._told.clear()
            try:
                await self._look()
            except ServerUnreachable:
                await asyncio.sleep(RETRY)  # the worker's own conversation tells of the outage
            except Exception as error:  # noqa: BLE001 - the next look may do better
                events.emit(events.DutyFailed("the upkeep of running jobs", one_line(error)))
                await asyncio.sleep(RETRY)

    def _pause(self) -> float:
        due = self._attempts.sign_in
        return min(LONGEST, self._interval(), LONGEST if due is None else due)

    async def _look(self) -> None:
        signs = self._attempts.due_signs()
        asks = self._attempts.running > 0 and time.monotonic() - self._asked_at >= self._interval()
        if signs:
            await self._renew(signs)
        if asks:
            await self._ask()

    async def _ask(self) -> None:
        self._asked_at = time.monotonic()
        try:
            async with self._database.session() as session:
                claims = await session.run(self._store.aborting(self._worker_id))
        except Exception:
            self._asked_at = float("-inf")
            raise
        self._attempts.abort(claims)

    async def _renew(self, signs: list[Sign]) -> None:
        async with self._database.session() as session:
            ours = await session.run(self._store.touch(self._worker_id, signs))
        self._attempts.signed(signs)
        for sign in signs:
            if sign.job_id not in ours:
                self._attempts.lose(sign.job_id, sign.claim_no)
