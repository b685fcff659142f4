"""Two sessions, and the moves they can make: each with the statement that the engine itself uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgwerk.execution import Outcome
from pgwerk.params import EnqueueParams
from pgwerk.specifying import specify
from pgwerk.store.control import ControlStore
from pgwerk.store.ending import EndingStore
from pgwerk.store.enqueue import EnqueueStore
from pgwerk.store.exchange import ExchangeStore, Range
from pgwerk.store.maintenance import MaintenanceStore
from pgwerk.store.workers import Pulse, WorkerStore
from pgwerk.wire import Call
from tests import handlers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk import JobStatus, Werk
    from pgwerk.store.enqueue import Inserted
    from tests.db.session import Party

EVERYTHING = Range("default", 0, -(2**62), 2**63 - 1)
ROOMS = ("ready", "blocked", "scheduled", "waiting", "active", "finished")
_MISPLACED = """
    select coalesce(job.id, room.job_id), array_agg(room.name order by room.name)
    from job full join ({rooms}) room on room.job_id = job.id
    group by 1 having count(room.name) <> 1 or count(job.id) <> 1 order by 1
"""


@dataclass
class Race:
    app: Werk
    first: Party
    second: Party
    is_plain: bool = False
    """Claims and ends jobs by the statements for most of them, not by those for all."""

    @property
    def schema(self) -> str:
        return self.first.schema

    @property
    def maintenance(self) -> MaintenanceStore:
        return MaintenanceStore(self.schema)

    async def enqueue(self, **options: Any) -> int:
        job = await self.app.enqueue(handlers.noop, **{f"_{name}": value for name, value in options.items()})
        assert job is not None
        return job.id

    async def worker(self) -> int:
        """Registered, and alive until declared dead."""
        return await self.first.say(WorkerStore(self.schema).register("w", "AsyncWorker", ["default"], 10, 10.0))

    async def bury(self, worker: int) -> None:
        assert await self.first.say(WorkerStore(self.schema).declare_dead(Pulse(worker, 0, 10.0))) == "w"

    async def claimed(self, worker: int, claim_no: int = 1) -> list[int]:
        """By the first session, and committed."""
        return jobs(await self.first.say(self.claim(worker, claim_no)))

    def claim(self, worker: int, claim_no: int = 1, room: int = 10) -> Call[Any]:
        if not self.is_plain:
            return self.claim_grouped(worker, claim_no, room)
        return ExchangeStore(self.schema).claim(worker, claim_no, room, [EVERYTHING], is_followed=False)

    def claim_grouped(self, worker: int, claim_no: int = 1, room: int = 10) -> Call[Any]:
        return ExchangeStore(self.schema).claim_grouped(worker, claim_no, room, [EVERYTHING], is_followed=False)

    def complete(self, job: int, worker: int, claim_no: int = 1) -> Call[set[int]]:
        return self.settle(self.completed(job, worker, claim_no))

    def completed(self, job: int, worker: int, claim_no: int = 1) -> Outcome:
        return Outcome(job, worker, claim_no, "complete", result=b"1", has_sequel=not self.is_plain)

    def settle(self, *outcomes: Outcome) -> Call[set[int]]:
        """Outcomes of one kind: those that end their jobs, or those that send them back. Without what follows."""
        call, *_ = EndingStore(self.schema).end(outcomes)
        return Call(call.statement, call.values, lambda rows: call.read(rows).found)

    def cancel(self, job: int) -> Call[set[int]]:
        return self.settle(Outcome(job, None, None, "aborted", error="cancelled before it ran"))

    def is_pending(self, job: int) -> Call[bool]:
        return ControlStore(self.schema).is_pending(job)

    def promote(self) -> Call[int]:
        return self.maintenance.promote(float("-inf"))

    def insert(self, *keys: str | None) -> Call[Inserted]:
        params = [EnqueueParams(handlers.noop, key=key) for key in keys]
        specs = [specify(each, self.app.serializer) for each in params]
        return EnqueueStore(self.schema).enqueue(specs, always_notify=False)


async def look(race: Race, job: int) -> tuple[JobStatus, int]:
    found = await race.app.get_job(job)
    return found.status, found.attempts


def jobs(claimed: Sequence[dict[str, Any]]) -> list[int]:
    return [row["job_id"] for row in claimed]


def retry(job: int, worker: int, claim_no: int = 1, delay: float = 0.0) -> Outcome:
    return Outcome(job, worker, claim_no, "retry", delay, error="again")


def back(job: int, worker: int, claim_no: int = 1) -> Outcome:
    return Outcome(job, worker, claim_no, "back")


def misplaced(query: Any) -> list[tuple[Any, ...]]:
    """Jobs that are in no place, or in several; and places that no job has."""
    rooms = " union all ".join(f"select job_id, '{room}' as name from {room}" for room in ROOMS)
    found: list[tuple[Any, ...]] = query(_MISPLACED.format(rooms=rooms))
    return found
