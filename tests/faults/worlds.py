"""What two sessions meet over: a few jobs, each in the room that is asked for, and what can be done with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgwerk import Dependency, JobNotFound
from pgwerk.ending import Endings
from pgwerk.execution import Outcome
from pgwerk.maintenance import Maintenance
from pgwerk.store.exchange import ExchangeStore, Range
from pgwerk.store.maintenance import MaintenanceStore
from pgwerk.store.workers import Pulse, WorkerStore
from tests.db.portrait import LINES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import psycopg

    from pgwerk import Werk
    from pgwerk.wire import Session
    from tests.faults.stepping import Side

EVERYTHING = Range("default", 0, -(2**62), 2**63 - 1)
DEAD, HOLDER, OTHER, CLAIMER, FOURTH = 1, 2, 3, 4, 5
"""Workers: the first job's, the one that keeps a group busy, the second job's, and those that come to claim."""


@dataclass(frozen=True)
class Deed:
    """What a session does with a job that stands in one of these rooms."""

    rooms: tuple[str, ...]
    do: Callable[[Side, int, int], Awaitable[Any]]
    """Given the job, and the worker that holds it or comes to claim it."""

    tells: bool = True
    """Its answer is a promise; else it does what there is to do just now."""


async def _claim(side: Side, _: int, __: int) -> None:
    """As a worker does: by the other statement where it meets a group."""
    claims = ExchangeStore(side.schema)
    comer = CLAIMER if side.name == "first" else FOURTH
    for claim in (claims.claim, claims.claim_grouped):
        rows = await side.session.run(claim(comer, 1, 10, [EVERYTHING], is_followed=False))
        if not any(row.fate == "left" for row in rows):
            break


def _end(status: str, *, plain: bool = False) -> Callable[[Side, int, int], Awaitable[bool]]:
    async def settle(side: Side, job: int, worker: int) -> bool:
        result, error = (b"1", None) if status == "complete" else (None, "again")
        outcome = Outcome(job, worker, 1, status, 0.0, result, error, has_sequel=not plain)
        return bool((await Endings(side.schema).end(side.session, [outcome])).found)

    return settle


def _duty(name: str) -> Callable[[Side, int, int], Awaitable[None]]:
    async def round_(side: Side, _: int, __: int) -> None:
        maintenance = Maintenance(side.app.database, side.app.config)
        await getattr(maintenance, f"_{name}")(side.session)

    return round_


async def _promote(side: Side, _: int, __: int) -> None:
    await side.session.run(MaintenanceStore(side.schema).promote(float("-inf")))


async def _update(side: Side, job: int, _: int) -> bool:
    try:
        return await side.app.update_job(job, priority=1) is not None
    except JobNotFound:
        return True  # it took effect, and somebody deleted it before it could be read


async def _update_time(side: Side, job: int, _: int) -> bool:
    try:
        return await side.app.update_job(job, delay=7200) is not None
    except JobNotFound:
        return True


async def _enqueue_key(side: Side, _: int, __: int) -> bool:
    return await side.app.enqueue("jobs.keyed", _key="k") is not None


async def _depend(side: Side, job: int, _: int) -> str:
    try:
        await side.app.enqueue("jobs.dependent", _depends_on=job, _on_failure="calls.failed")
    except JobNotFound:
        return "unknown"
    return "tied"


PENDING = ("ready", "blocked", "due", "waiting")
ANY = (*PENDING, "active", "failed")
DEEDS = {
    "claim": Deed(("ready", "blocked"), _claim, tells=False),
    "complete": Deed(("active",), _end("complete", plain=True)),
    "settle": Deed(("active",), _end("failed")),
    "send_back": Deed(("active",), _end("retry")),
    "rescue": Deed(("active",), _duty("rescue"), tells=False),
    "cancel": Deed(PENDING, lambda side, job, _: side.app.cancel_job(job)),
    "abort": Deed(("active",), lambda side, job, _: side.app.abort_job(job)),
    "requeue": Deed(("failed",), lambda side, job, _: side.app.requeue_job(job)),
    "delete": Deed((*PENDING, "failed"), lambda side, job, _: side.app.delete_job(job)),
    "update": Deed(PENDING, _update),
    "update_time": Deed(PENDING, _update_time),
    "expire": Deed(("ready", "blocked"), _duty("expire"), tells=False),
    "promote": Deed(("due",), _promote, tells=False),
    "forget": Deed(("failed",), _duty("forget"), tells=False),
    "watch": Deed(("waiting",), _duty("watch"), tells=False),
    "enqueue_key": Deed(ANY, _enqueue_key),
    "enqueue_dependent": Deed(ANY, _depend, tells=False),
}


@dataclass(frozen=True)
class Scene:
    """Two deeds, and how the jobs are related that they are done to: `same` is one job, `group` two of one group,
    `shared` two on which a third one depends, `callback` a job and its callback.
    """

    first: str
    second: str
    relation: str
    rooms: tuple[str, str]

    @property
    def name(self) -> str:
        return f"{self.first} ({self.rooms[0]}) and {self.second} ({self.rooms[1]}), {self.relation}"

    @property
    def deeds(self) -> tuple[Deed, Deed]:
        return DEEDS[self.first], DEEDS[self.second]


RELATIONS = ("same", "same of a group", "group", "shared", "callback")


def scenes() -> list[Scene]:
    names = list(DEEDS)
    pairs = [(first, second) for at, first in enumerate(names) for second in names[at:]]
    return [
        Scene(first, second, relation, rooms)
        for first, second in pairs
        for relation in RELATIONS
        if relation == "same" or not {first, second} & {"enqueue_key", "enqueue_dependent"}
        for rooms in _rooms(DEEDS[first].rooms, DEEDS[second].rooms, relation)
    ]


def _rooms(first: tuple[str, ...], second: tuple[str, ...], relation: str) -> list[tuple[str, str]]:
    match relation:
        case "same":
            return [(room, room) for room in first if room in second and room != "blocked"]
        case "same of a group":
            return [(room, room) for room in first if room in second and room not in ("waiting", "due")]
        case "group":
            # one that runs and one that waits for it, or two that wait for a third one, or may both run
            fit = [("active", "blocked"), ("blocked", "active"), ("blocked", "blocked"), ("ready", "ready"),
                   ("failed", "blocked"), ("blocked", "failed"), ("active", "ready"), ("ready", "active"),
                   ("failed", "active"), ("active", "failed"), ("due", "blocked"), ("blocked", "due")]  # fmt: skip
            return [rooms for rooms in fit if rooms[0] in first and rooms[1] in second]
        case "shared":
            fit = [(a, b) for a in ("ready", "active", "due") for b in ("ready", "active", "due")]
            return [rooms for rooms in fit if rooms[0] in first and rooms[1] in second]
        case _:
            fit = [("failed", room) for room in ("ready", "active", "failed")]
            fit += [(room, "failed") for room in ("ready", "active")]
            return [rooms for rooms in fit if rooms[0] in first and rooms[1] in second]


BUILT_FIRST = ("failed", "active", "blocked", "due", "waiting", "ready")  # what is ready would be claimed for others
_TABLES = "select tablename from pg_tables where schemaname = current_schema() and tablename <> 'migration'"
_LONG_AGO = "update {} set {} = now() - interval '1 hour' where {} is not null"


class World:
    """Builds a scene by what the product itself does, and puts it back for each play."""

    def __init__(self, app: Werk, session: Session, connection: psycopg.Connection[Any]) -> None:
        self._app, self._session, self._connection = app, session, connection
        self._tables = [name for (name,) in self.query(_TABLES)]
        self._text = ""
        self._lacks_holder = False

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(text, values or None)
        return cursor.fetchall() if cursor.description else []

    async def build(self, scene: Scene) -> tuple[int, int]:
        """The two jobs; where they are one, twice the same."""
        self.query(f"truncate {', '.join(self._tables)} restart identity")
        store = WorkerStore(self._app.database.schema)
        for _ in range(FOURTH):
            await self._session.run(store.register("w", "AsyncWorker", ["default"], 10, 10.0))
        jobs = await self._jobs(scene)
        if scene.relation in ("same of a group", "group"):
            await self._enqueue(_group="g")
        if scene.relation in ("same", "shared") and "failed" not in scene.rooms:
            tied = await self._enqueue(_depends_on=sorted(set(jobs)))
            await self._enqueue(_depends_on=Dependency(tied, allow_failure=True))
        await self._age(scene)
        self._remember()
        return jobs

    def restore(self) -> None:
        self._connection.execute(self._text)

    async def quieten(self) -> None:
        """What is left for the next round is done: by maintenance, and by a worker that takes whatever may run."""
        claims, before = ExchangeStore(self._app.database.schema), None
        while before != (before := self.query(LINES)):
            await self._app.sweep()
            await self._session.run(MaintenanceStore(self._app.database.schema).promote(float("-inf")))
            await self._claim(HOLDER, claims)

    async def _jobs(self, scene: Scene) -> tuple[int, int]:
        if scene.relation == "callback":
            return await self._with_callback(scene.rooms)
        options: dict[str, Any] = {"_key": "k"} if "enqueue_key" in (scene.first, scene.second) else {}
        options |= {"_group": "g"} if scene.relation in ("same of a group", "group") else {}
        self._lacks_holder = "blocked" in scene.rooms and "active" not in scene.rooms
        if scene.relation.startswith("same"):
            job = await self._put(scene.rooms[0], DEAD, **options)
            return job, job
        places = sorted(enumerate(scene.rooms), key=lambda place: BUILT_FIRST.index(place[1]))
        made: dict[int, int] = {}
        for at, room in places:
            made[at] = await self._put(room, (DEAD, OTHER)[at], **options if not made else {**options, "_key": None})
        return made[0], made[1]

    async def _with_callback(self, rooms: tuple[str, str]) -> tuple[int, int]:
        """The first one has failed, and the second one is to tell of it; in whichever order the deeds come."""
        subject = await self._put("failed", DEAD, _on_failure="calls.failed")
        ((callback,),) = self.query("select id from job where callback_of = %s", subject)
        room = rooms[1] if rooms[0] == "failed" else rooms[0]
        await self._move(callback, room, OTHER)
        return (subject, callback) if rooms[0] == "failed" else (callback, subject)

    async def _put(self, room: str, worker: int, **options: Any) -> int:
        if room == "blocked" and self._lacks_holder:
            self._lacks_holder = False
            await self._put("active", HOLDER, _group="g")
        if room == "due":
            options["_delay"] = 60
        if room == "waiting":
            options["_depends_on"] = await self._enqueue(_delay=10**6)
        job = await self._enqueue(**options)
        await self._move(job, room, worker)
        return job

    async def _move(self, job: int, room: str, worker: int) -> None:
        schema = self._app.database.schema
        if room in ("failed", "active", "blocked"):
            await self._claim(worker, ExchangeStore(schema))
        if room == "failed":
            await Endings(schema).end(self._session, [Outcome(job, worker, 1, "failed", error="again")])
        if room == "due":
            self.query(_LONG_AGO.format("scheduled", "due", "due") + " and job_id = %s", job)

    async def _enqueue(self, **options: Any) -> int:
        asked: dict[str, Any] = {"_retry": 2, "_ttl": 7200, "_on_stopped": "calls.stopped"}
        asked |= options
        job = await self._app.enqueue("jobs.work", **asked)
        assert job is not None
        return job.id

    async def _claim(self, worker: int, claims: ExchangeStore) -> None:
        await self._session.run(claims.claim_grouped(worker, 1, 10, [EVERYTHING], is_followed=False))

    async def _age(self, scene: Scene) -> None:
        deeds = (scene.first, scene.second)
        if "expire" in deeds:
            for room in ("ready", "blocked"):
                self.query(_LONG_AGO.format(room, "expires_at", "expires_at"))
        if "forget" in deeds:
            self.query(_LONG_AGO.format("finished", "expires_at", "job_id"))
        for deed, worker in zip(deeds, (DEAD, DEAD if scene.relation.startswith("same") else OTHER), strict=True):
            if deed == "rescue":
                store = WorkerStore(self._app.database.schema)
                assert await self._session.run(store.declare_dead(Pulse(worker, 0, 10.0))) or deeds[0] == deeds[1]

    def _remember(self) -> None:
        parts = [f"delete from {table};" for table in self._tables]
        for table in self._tables:
            ((rows,),) = self.query(f"select coalesce(json_agg(t), '[]') from {table} t")
            text = json.dumps(rows).replace("'", "''")
            parts.append(f"insert into {table} select * from json_populate_recordset(null::{table}, '{text}');")
        parts.append("select setval('job_id_seq', (select max(id) from job));")
        self._text = "\n".join(parts)
