"""What a worker knows of its conversation with the server, and what it cannot know after the connection broke: which of
the outcomes on their way were stored, and which claims were made whose answers never came.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgwerk.execution import Outcome

ORPHAN_CHECKS = (0.0, 5.0, 30.0)  # seconds after a reconnect: the old connection may still have been at work


class Contact:
    """Moments are the monotonic clock's."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked_at = math.inf
        """When the question was asked that is not answered yet."""

        self.answered_at = -math.inf
        self.unknown: set[tuple[int, int | None]] = set()
        """Claims whose outcomes were on their way when the connection broke: what has gone since may have gone by them.
        """

        self._orphan_checks: list[float] = []

    @property
    def orphans_in(self) -> float | None:
        """Seconds until the next look for claims whose answers were lost."""
        return max(0.0, self._orphan_checks[0] - time.monotonic()) if self._orphan_checks else None

    def ask(self) -> None:
        self.asked_at = time.monotonic()

    def answered(self) -> None:
        self.asked_at, self.answered_at = math.inf, time.monotonic()

    def lose(self, unanswered: Iterable[Outcome]) -> None:
        self.is_away = True
        self.unknown |= {outcome.claim for outcome in unanswered}

    def restore(self) -> None:
        self.answered()
        self.is_away = False
        self._orphan_checks = [self.answered_at + seconds for seconds in ORPHAN_CHECKS]

    def looked_for_orphans(self) -> None:
        self._orphan_checks.pop(0)

    def settled(self, claims: set[tuple[int, int | None]]) -> None:
        self.unknown -= claims
