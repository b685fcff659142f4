"""When a process has done its part, so that a fresh one may take its place: whatever its handlers leak ends."""

from __future__ import annotations

import math
import resource
import time
from pathlib import Path

MEBIBYTE = 2**20
_LOOK = 1.0  # seconds between two looks at the memory


class Wear:
    """Of a worker's own process. `max_memory` in mebibytes; None: it never wears out of that."""

    def __init__(self, max_jobs: int | None, max_memory: int | None) -> None:
        self._max_jobs, self._max_memory = max_jobs, max_memory
        self.jobs_left: float = max_jobs or math.inf
        self.has_worked = False
        self._looked_at = float("-inf")

    def count(self) -> None:
        """An attempt has ended."""
        self.jobs_left -= 1
        self.has_worked = True

    def reason(self) -> str | None:
        """Why it is time; None: it is not yet."""
        if self.jobs_left <= 0:
            return f"it has run {self._max_jobs} jobs"
        if self._max_memory is None or time.monotonic() - self._looked_at < _LOOK:
            return None
        self._looked_at = time.monotonic()
        used = mebibytes()
        return f"it uses {used} of {self._max_memory} MiB of memory" if used >= self._max_memory else None


def mebibytes(pid: int | None = None) -> int:
    """Of memory that a process has, this one unless another is named. Where the system does not tell, the most that
    this one ever had, and 0 of another, as of one that is gone.
    """
    try:
        pages = int(Path(f"/proc/{'self' if pid is None else pid}/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MEBIBYTE if pid is None else 0
    return pages * resource.getpagesize() // MEBIBYTE
