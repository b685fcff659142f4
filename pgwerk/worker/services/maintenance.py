"""Rounds of maintenance, in every worker."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from pgwerk import events
from pgwerk.errors import ServerUnreachable, one_line

if TYPE_CHECKING:
    from pgwerk.maintenance import Maintenance

SHORTEST = 0.2  # seconds between two rounds, however often they are asked for, unless one has left work undone


class Rounds:
    def __init__(self, maintenance: Maintenance, interval: float) -> None:
        self._maintenance, self._interval = maintenance, interval
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """A round now, not at the next interval."""
        self._nudged.set()

    async def run(self) -> None:
        while True:
            self._nudged.clear()
            if not await self._has_more():
                await asyncio.sleep(SHORTEST)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval * random.uniform(0.8, 1.2)):  # noqa: S311
                        await self._nudged.wait()

    async def _has_more(self) -> bool:
        """After a round; one that failed must not be the last."""
        try:
            return await self._maintenance.tick()
        except ServerUnreachable:
            pass  # the worker's own conversation tells of the outage
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and tried again
            events.emit(events.DutyFailed("maintenance", one_line(error)))
        return False
