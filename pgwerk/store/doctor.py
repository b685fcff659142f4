from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pgwerk.store.catalogue import Catalogue, job_ids
from pgwerk.wire import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.wire import Row

PAGE = 5000


class Place(NamedTuple):
    """In the scan of what is queued; as it stands, before the first."""

    queue: str = ""
    priority: int = -(2**15)
    seq: int = -(2**63)


class Shape(NamedTuple):
    """Of a call, as far as it decides whether it can be made."""

    function: str
    is_callback: bool
    is_own: bool
    """False: it is called back when the job ends."""

    positional: int | None
    names: tuple[str, ...] | None
    payload: bytes | None
    """In place of both, for only the app's serializer can read it; asked for by itself."""


class Shaped(NamedTuple):
    shape: Shape
    jobs: int
    ids: list[int]
    """The first of them; all, where their payloads are to be asked for."""

    @property
    def is_closed(self) -> bool:
        """It takes the payloads to know; a callback's say nothing."""
        return not self.shape.is_callback and self.shape.names is None and self.shape.payload is None


class Server(NamedTuple):
    role: str
    database: str
    version: str
    number: int
    is_read_only: bool


class Connections(NamedTuple):
    most: int
    reserved: int
    used: int
    free: int


class MayMigrate(NamedTuple):
    may_create: bool
    """A schema."""

    may_alter: bool
    """What is in the schema."""

    owner: str | None


class Index(NamedTuple):
    name: str
    table: str
    is_valid: bool
    is_building: bool
    """Somebody builds an index of its table."""

    is_identity: bool
    """Replicas know its table's rows by it."""

    definition: str
    constraint: str | None
    """That it stands for."""


class Table(NamedTuple):
    name: str
    bytes: int
    is_on: bool
    """Autovacuum, for the whole server."""

    is_vacuumed: bool
    """The table's own setting."""

    live: int
    dead: int
    due_at: float
    """Dead rows that call vacuum."""

    vacuumed_at: datetime | None


class Suspect(NamedTuple):
    who: str
    since: datetime | None
    mend: str


class Present(NamedTuple):
    """A worker that is alive as far as the table knows, or was declared dead in the last day."""

    id: int
    name: str
    state: str
    beat: int
    patience: float
    """Seconds of an unchanged beat after which it counts as dead."""

    ended_at: datetime | None
    running: int


class DoctorStore(Catalogue):
    def server(self) -> Call[Server]:
        return self._call("server", lambda rows: Server(**rows[0]))

    def clock(self) -> Call[float]:
        """Seconds since 1970."""
        return self._call("server_clock", lambda rows: float(rows[0]["seconds"]))

    def backend(self) -> Call[int]:
        return self._call("whoami", lambda rows: int(rows[0]["pg_backend_pid"]))

    def connections(self) -> Call[Connections]:
        return self._call("connections", lambda rows: Connections(**rows[0]))

    def is_migrated(self) -> Call[bool]:
        return self._call("is_migrated", lambda rows: bool(rows[0]["is_migrated"]), schema=self.schema)

    def may_migrate(self) -> Call[MayMigrate]:
        return self._call("may_migrate", lambda rows: MayMigrate(**rows[0]), schema=self.schema)

    def lacking_rights(self) -> Call[list[tuple[str, str]]]:
        """Each with what it is for."""
        return self._call("lacking_rights", lambda rows: [tuple(row.values()) for row in rows], schema=self.schema)

    def indexes(self, inside: str) -> Call[list[Index]]:
        """Those of another schema, as if they stood in ours."""
        values = {"inside": inside, "quoted_schema": f'"{self.schema}"'}
        return self._call("indexes", lambda rows: [Index(**row) for row in rows], **values)

    def tables(self) -> Call[list[Table]]:
        return self._call("tables", lambda rows: [Table(**row) for row in rows], schema=self.schema)

    def holders(self, seconds: float, transactions: int) -> Call[list[Suspect]]:
        return self._call("holders", _suspects, seconds=seconds, transactions=transactions)

    def idlers(self, seconds: float) -> Call[list[Suspect]]:
        return self._call("idlers", _suspects, seconds=seconds)

    def hidden_sessions(self) -> Call[int]:
        return self._call("hidden_sessions", lambda rows: int(rows[0]["sessions"]))

    def roll_call(self) -> Call[list[Present]]:
        return self._call("roll_call", lambda rows: [Present(**row) for row in rows])

    def overdue(self, most: int) -> Call[dict[str, int]]:
        """Jobs by queue."""
        return self._call("overdue", lambda rows: {row["queue"]: row["jobs"] for row in rows}, most=most)

    def queued_page(self, behind: Place) -> Call[tuple[list[int], Place | None]]:
        """Jobs, and where the page ends."""
        return self._call("queued_page", _page, **behind._asdict(), page=PAGE)

    def unqueued_page(self, after: int) -> Call[list[int]]:
        return self._call("unqueued_page", job_ids, after=after, page=PAGE)

    def shapes(self, ids: Sequence[int]) -> Call[list[Shaped]]:
        return self._call("shapes", lambda rows: list(map(_shaped, rows)), ids=list(ids))

    def opened(self, closed: Shaped, ids: Sequence[int]) -> Call[list[Shaped]]:
        """These of its jobs, each with its payload."""

        def read(rows: list[Row]) -> list[Shaped]:
            return [Shaped(closed.shape._replace(payload=row["payload"]), 1, [row["id"]]) for row in rows]

        return self._call("payloads", read, ids=list(ids))


def plan_of(call: Call[Any]) -> Call[dict[str, Any]]:
    """How the server would do it; nothing is done."""
    return Call(call.statement.explained, call.values, lambda rows: dict(rows[0]["QUERY PLAN"][0]["Plan"]))


def _suspects(rows: list[Row]) -> list[Suspect]:
    return [Suspect(**row) for row in rows]


def _page(rows: list[Row]) -> tuple[list[int], Place | None]:
    last = Place(*(rows[-1][name] for name in Place._fields)) if rows else None
    return job_ids(rows), last


def _shaped(row: Row) -> Shaped:
    names = None if row["names"] is None else tuple(row["names"])
    shape = Shape(**{**{name: row[name] for name in Shape._fields}, "names": names})
    return Shaped(shape, row["jobs"], row["ids"])
