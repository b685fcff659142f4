"""What has ended in this worker since it last said so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgwerk.execution import Outcome

INTERVAL = 1.0  # seconds between two reports


class Tally:
    """By queue, function and status: how many, how many of them ran, how many seconds in all, and the longest."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], list[float]] = {}
        self._began = 0.0

    @property
    def is_due(self) -> bool:
        return self.due_in == 0.0

    @property
    def due_in(self) -> float | None:
        """Seconds until the next report; None: there is nothing to say."""
        return max(0.0, self._began + INTERVAL - time.monotonic()) if self._counts else None

    def count(self, outcome: Outcome) -> None:
        """What goes back without having used an attempt is none."""
        if outcome.ran is None or outcome.status in ("back", "unstarted"):
            return
        queue, function, seconds = outcome.ran
        if not self._counts:
            self._began = time.monotonic()
        count = self._counts.setdefault((queue, function, outcome.status), [0, 0, 0.0, 0.0])
        count[0] += 1
        if seconds is not None:
            count[1] += 1
            count[2] += seconds
            count[3] = max(count[3], seconds)

    def take(self) -> list[dict[str, Any]]:
        counts, self._counts = self._counts, {}
        return [
            {"queue": queue, "function": function, "status": status,
             "jobs": int(jobs), "ran": int(ran), "run_secs": run, "longest_secs": longest}
            for (queue, function, status), (jobs, ran, run, longest) in counts.items()
        ]  # fmt: skip
