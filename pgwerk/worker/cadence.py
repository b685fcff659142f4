"""When a worker asks for work, and whether it lets producers know that it would like to hear of some."""

from __future__ import annotations

import time
from enum import Enum, auto

FIRST_POLL = 0.02  # seconds; a producer that could not see the announcement yet is through by one of the first polls
BUSY = 1.0  # seconds of claims that found enough, after which notifications are only a cost


class Phase(Enum):
    FEEDING = auto()  # there may be more: ask at once
    CHECKING = auto()  # it looks as if there were nothing: ask once more and thoroughly, and say that one is idle
    IDLE = auto()  # wait for a notification, a due time, or the next poll


class Cadence:
    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """At the start and after an outage: nothing was announced, nothing is known."""
        self.phase = Phase.FEEDING
        self._announced = False
        self._wait = FIRST_POLL
        self._poll_at = 0.0
        self._enough_since: float | None = None

    @property
    def is_hungry(self) -> bool:
        return self.phase is not Phase.IDLE

    @property
    def is_checking(self) -> bool:
        return self.phase is Phase.CHECKING

    @property
    def poll_in(self) -> float:
        """Seconds until it is time to look without being told."""
        return max(0.0, self._poll_at - time.monotonic())

    def wake(self) -> None:
        self.phase = Phase.FEEDING

    def poll(self) -> None:
        self.phase = Phase.CHECKING

    def announcement(self, *, listening: bool) -> bool | None:
        """For the next claim: True says that this worker is idle, False takes it back, None changes nothing."""
        if self.phase is Phase.CHECKING and listening and not self._announced:
            return True
        is_busy = self._enough_since is not None and time.monotonic() - self._enough_since >= BUSY
        return False if self._announced and (is_busy or not listening) else None

    def answered(self, found: int, *, more: bool, announced: bool | None, poll_interval: float) -> None:
        """After a claim: how much it found, whether there is more at once, what it announced."""
        self._announced = self._announced if announced is None else announced
        if announced or (found and not self._announced):
            self._wait = FIRST_POLL
        if more:
            self._enough_since = self._enough_since or time.monotonic()
            self.phase = Phase.FEEDING
            return
        self._enough_since = None
        if found or self.phase is Phase.FEEDING:
            self.phase = Phase.CHECKING
        elif self.phase is Phase.CHECKING:
            self.phase = Phase.IDLE
            self._poll_at = time.monotonic() + self._wait
            self._wait = min(self._wait * 2, poll_interval)
