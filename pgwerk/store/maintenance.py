from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgwerk.store.catalogue import Catalogue, nothing

if TYPE_CHECKING:
    from pgwerk.wire import Call, Row

BATCH = 500


class Duties(NamedTuple):
    """Which of them have something to do."""

    rescue: bool
    expire: bool
    tidy: bool


class Lost(NamedTuple):
    job_id: int
    worker_id: int
    claim_no: int
    attempt: int
    worker_name: str | None
    max_attempts: int | None


class Expired(NamedTuple):
    job_id: int
    ttl: float | None


class MaintenanceStore(Catalogue):
    def duties(self) -> Call[Duties]:
        return self._call("duties", lambda rows: Duties(**rows[0]))

    def promote(self, due_from: float) -> Call[int]:
        """How many became ready; fewer than a batch: all that were due."""
        return self._call("promote", _promoted, due_from=due_from, batch=BATCH, channel=self.channel)

    def lost(self) -> Call[list[Lost]]:
        return self._call("lost", lambda rows: [Lost(**row) for row in rows], batch=BATCH)

    def expired(self) -> Call[list[Expired]]:
        return self._call("expired", lambda rows: [Expired(**row) for row in rows], batch=BATCH)

    def forget_workers(self) -> Call[None]:
        return self._call("forget_workers", nothing, batch=BATCH)

    def forget_waiters(self) -> Call[None]:
        return self._call("forget_waiters", nothing, batch=BATCH)


def _promoted(rows: list[Row]) -> int:
    return int(rows[0]["promoted"])
