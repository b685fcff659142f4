"""How far ahead of its free slots a worker may claim: only as far as the pace of the last jobs promises a start at
once. Short jobs then run while their results and the next jobs travel; long ones are never claimed ahead.
"""

from __future__ import annotations

import time

PROMISE = 0.05  # seconds until a job that is claimed ahead has started, if the pace holds
FARTHEST = 300  # jobs; what a worker that is killed has in its hands stays small
PATIENCE = 0.25  # seconds; a promise broken by that much: the job goes back, and nothing is claimed ahead for a while
_MEMORY = 0.3  # share of the newest measurement


class Pace:
    def __init__(self) -> None:
        self._ended = 0
        self._since = time.monotonic()
        self._rate = 0.0

    @property
    def ahead(self) -> int:
        return min(FARTHEST, int(self._rate * PROMISE))

    def count(self) -> None:
        """An attempt has ended."""
        self._ended += 1

    def measure(self) -> None:
        """Once an exchange."""
        now = time.monotonic()
        seconds = max(now - self._since, 1e-6)
        self._rate += _MEMORY * (self._ended / seconds - self._rate)
        self._ended, self._since = 0, now

    def broken(self) -> None:
        self._rate = 0.0
