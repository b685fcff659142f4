"""What a bench's workers run, in the process that measures."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Meter:
    """Of the jobs since it was set back."""

    started: int = 0
    first: float = 0.0
    last: float = 0.0
    noted: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self) -> None:
        self.noted.set()
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.started += 1

    def reset(self) -> None:
        self.started, self.first, self.last, self.noted = 0, 0.0, 0.0, asyncio.Event()

    @property
    def rate(self) -> float:
        """Starts a second, from the first to the last."""
        return (self.started - 1) / (self.last - self.first) if self.last > self.first else 0.0


meter = Meter()


async def noted() -> None:
    meter.note()


async def noop() -> None:
    pass
