from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pgwerk.store.catalogue import Catalogue, job_ids, nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.wire import Call, Row

BATCH = 500
TALLIED = 10_000  # of these small rows at once


class Duties(NamedTuple):
    """Which of them have something to do."""

    rescue: bool
    expire: bool
    watch: bool
    doom: bool
    free: bool
    forget: bool
    tidy: bool
    add_up: bool


class Lost(NamedTuple):
    job_id: int
    worker_id: int
    claim_no: int
    attempt: int
    is_aborting: bool
    is_stale: bool
    """Its worker lives; the job's own sign of life has stopped."""

    worker_name: str | None
    max_attempts: int | None
    attempts_before: int | None
    heartbeat_secs: float | None


class Expired(NamedTuple):
    job_id: int
    ttl: float | None


class Watched(NamedTuple):
    reached: int
    """The last row of this look; 0: there was none."""

    ended: list[int]


class Stranded(NamedTuple):
    reached: str | None
    stranded: list[int]


class Place(NamedTuple):
    """In the order in which jobs have ended."""

    finished_at: float
    job_id: int


START, END = Place(0.0, 0), Place(math.inf, 0)


class Outlived(NamedTuple):
    seen: int
    """Jobs of this look; fewer than a batch: there are no more."""

    finished_at: float | None
    job_id: int | None
    """Of the last of them; None: there was none."""

    outlived: list[int]
    is_all: bool
    """Nobody needs any of those that are due."""


class MaintenanceStore(Catalogue):
    def duties(
        self, result_ttl: float | None = None, failure_ttl: float | None = None,
        complete: Place = START, failed: Place = START, aborted: Place = START,
    ) -> Call[Duties]:  # fmt: skip
        """The last three: how far `outlived` has come."""
        values = {
            "result_ttl": result_ttl, "complete_at": complete.finished_at, "complete_id": complete.job_id,
            "failure_ttl": failure_ttl, "failed_at": failed.finished_at, "failed_id": failed.job_id,
            "aborted_at": aborted.finished_at, "aborted_id": aborted.job_id,
        }  # fmt: skip
        return self._call("duties", lambda rows: Duties(**rows[0]), **values)

    def promote(self, due_from: float) -> Call[int]:
        """How many became ready; fewer than a batch: all that were due."""
        return self._call("promote", _promoted, due_from=due_from, batch=BATCH, channel=self.channel)

    def lost(self) -> Call[list[Lost]]:
        return self._call("lost", lambda rows: [Lost(**row) for row in rows], batch=BATCH)

    def expired(self) -> Call[list[Expired]]:
        return self._call("expired", lambda rows: [Expired(**row) for row in rows], batch=BATCH)

    def watch(self, after: int) -> Call[Watched]:
        return self._call("watch", lambda rows: Watched(**rows[0]), after=after, batch=BATCH)

    def doomed(self) -> Call[dict[int, str]]:
        return self._call("doomed", lambda rows: {row["job_id"]: row["doom"] for row in rows}, batch=BATCH)

    def stranded(self, after: str) -> Call[Stranded]:
        return self._call("stranded", lambda rows: Stranded(**rows[0]), after=after, batch=BATCH)

    def outdated(self) -> Call[list[int]]:
        return self._call("outdated", job_ids, batch=BATCH)

    def outlived(self, status: str, seconds: float, after: Place = START) -> Call[Outlived]:
        values = {"since": after.finished_at, "after": after.job_id, "batch": BATCH}
        return self._call("outlived", lambda rows: Outlived(**rows[0]), status=status, seconds=seconds, **values)

    def forget(self, ids: Sequence[int]) -> Call[list[int]]:
        """Those that are gone; what somebody still needs or has in hand stays."""
        return self._call("forget", job_ids, ids=list(ids))

    def forget_workers(self) -> Call[None]:
        return self._call("forget_workers", nothing, batch=BATCH)

    def forget_waiters(self) -> Call[None]:
        return self._call("forget_waiters", nothing, batch=BATCH)

    def add_up(self) -> Call[None]:
        return self._call("add_up", nothing, batch=TALLIED)

    def forget_tally(self) -> Call[None]:
        return self._call("forget_tally", nothing, batch=TALLIED)


def _promoted(rows: list[Row]) -> int:
    return int(rows[0]["promoted"])
