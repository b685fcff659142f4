from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pgwerk.store.catalogue import Catalogue, as_json, job_ids, nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.wire import Call, Row

BATCH = 500


class Pulse(NamedTuple):
    """Of another worker, as read."""

    worker_id: int
    beat: int
    patience: float
    """Seconds of an unchanged beat after which it counts as dead."""


class Silence(NamedTuple):
    """Of an attempt whose sign of life is missing, as read."""

    job_id: int
    worker_id: int
    claim_no: int
    patience: float
    """Seconds to be watched before the attempt counts as silent."""


class Beat(NamedTuple):
    is_alive: bool
    """False: others have declared this worker dead."""

    others: list[Pulse]
    silent: list[Silence]


class Sign(NamedTuple):
    """Of life, of an attempt."""

    job_id: int
    claim_no: int
    heartbeat: float
    """Seconds; missing for twice that, the attempt counts as lost."""


class WorkerStore(Catalogue):
    def register(self, name: str, kind: str, queues: Sequence[str], concurrency: int, patience: float) -> Call[int]:
        values = {"name": name, "kind": kind, "queues": as_json(queues), "concurrency": concurrency}
        return self._call("register_worker", lambda rows: int(rows[0]["id"]), patience=patience, **values)

    def beat(self, worker_id: int, patience: float) -> Call[Beat]:
        """With the attempts that will count as lost in so many seconds."""
        return self._call("beat", partial(_beat, patience), worker_id=worker_id, patience=patience, batch=BATCH)

    def declare_dead(self, pulse: Pulse) -> Call[str | None]:
        """The name of the dead; None if it was alive after all, or declared already."""
        return self._call("declare_dead", _name, worker_id=pulse.worker_id, beat=pulse.beat)

    def is_waited_for(self, pid: int) -> Call[bool]:
        return self._call("is_waited_for", lambda rows: bool(rows[0]["is_waited_for"]), pid=pid)

    def declare_silent(self, silent: Sequence[Silence]) -> Call[None]:
        return self._call("declare_silent", nothing, attempts=as_json([each._asdict() for each in silent]))

    def stop(self, worker_id: int) -> Call[None]:
        return self._call("stop_worker", nothing, worker_id=worker_id)

    def touch(self, worker_id: int, signs: Sequence[Sign]) -> Call[set[int]]:
        """Those of the jobs that are still ours."""
        rows = as_json([sign._asdict() for sign in signs])
        return self._call("touch", lambda rows: set(job_ids(rows)), worker_id=worker_id, signs=rows)

    def aborting(self, worker_id: int) -> Call[dict[int, int]]:
        """The claim numbers of our jobs that somebody wants to end."""
        return self._call("aborting", _claims, worker_id=worker_id)

    def announce_idle(self, worker_id: int) -> Call[None]:
        return self._call("announce_idle", nothing, worker_id=worker_id)

    def withdraw_idle(self, worker_id: int) -> Call[None]:
        return self._call("withdraw_idle", nothing, worker_id=worker_id)


def _beat(patience: float, rows: list[Row]) -> Beat:
    others = [Pulse(worker, beat, asked / 1000) for worker, beat, asked in rows[0]["others"] or ()]
    silent = [Silence(job, worker, claim_no, patience) for job, worker, claim_no in rows[0]["silent"] or ()]
    return Beat(rows[0]["is_alive"], others, silent)


def _name(rows: list[Row]) -> str | None:
    return rows[0]["name"] if rows else None


def _claims(rows: list[Row]) -> dict[int, int]:
    return {row["job_id"]: row["claim_no"] for row in rows}
