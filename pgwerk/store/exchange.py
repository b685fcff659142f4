from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pgwerk.store.catalogue import Catalogue, as_json, every, nothing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgwerk.wire import Call, Row


class Range(NamedTuple):
    """Entries of one lane from `low` up to below `high`."""

    queue: str
    priority: int
    low: int
    high: int


class Gap(NamedTuple):
    """The priorities of a queue between two that have lanes."""

    queue: str
    above: int
    below: int


class Claimed(NamedTuple):
    """A candidate that a claim has looked at. In the order of the statement's columns: this is the one answer whose
    reading is worth saving on.
    """

    job_id: int
    attempt: int
    is_expired: bool
    function: str | None
    """None: somebody has deleted the job's row by hand."""

    payload: bytes | None
    max_attempts: int | None
    attempts_before: int | None
    retry_intervals: list[float] | None
    timeout_secs: float | None
    heartbeat_secs: float | None
    queue: str
    priority: int
    seq: int
    group_key: str | None
    key: str | None
    meta: bytes | None
    ttl: float | None
    scheduled_at: datetime | None
    enqueued_at: datetime | None
    started_at: datetime
    callback_of: int | None
    has_sequel: bool | None
    """Something follows its end: a callback, another run, a lifetime of its own."""

    fate: str
    """`taken`, or what became of a job whose group is busy: `parked`, or `left` where it was."""

    durability: str | None
    """Of no use here: the column is there for what it sets."""


class Outlook(NamedTuple):
    pause_changes: int
    """How often it has changed which of the queues are paused."""

    due: float | None
    """When the next scheduled job is due, by the server's clock, in seconds since 1970."""

    clock: float
    oldest: int
    newest: int


class Orphan(NamedTuple):
    job_id: int
    claim_no: int
    attempt: int


class ExchangeStore(Catalogue):
    def claim(
        self, worker_id: int, claim_no: int, room: int, ranges: Sequence[Range], *, is_followed: bool
    ) -> Call[list[Claimed]]:
        """`room` entries at most; none, and all of them `left`, where one is in a group."""
        return self._claim("claim", ranges, worker_id=worker_id, claim_no=claim_no, room=room, is_followed=is_followed)

    def claim_grouped(
        self, worker_id: int, claim_no: int, room: int, ranges: Sequence[Range], *, is_followed: bool, span: int = 0
    ) -> Call[list[Claimed]]:
        """Of `span` entries at most (of `room`, if that is more) those that may run, `room` at most; what else was
        looked at comes with them.
        """
        values = {"worker_id": worker_id, "claim_no": claim_no, "room": room, "is_followed": is_followed}
        return self._claim("claim_grouped", ranges, **values, span=max(room, span))

    def _claim(self, statement: str, ranges: Sequence[Range], **values: int) -> Call[list[Claimed]]:
        call = self._call(statement, every, lanes=as_json([lane._asdict() for lane in ranges]), **values)
        return replace(call, make=Claimed._make)

    def look(self, gaps: Sequence[Gap]) -> Call[list[tuple[str, int]]]:
        return self._call("look", _lanes, gaps=as_json([gap._asdict() for gap in gaps]))

    def outlook(self, due_from: float, queues: Sequence[str]) -> Call[Outlook]:
        return self._call("outlook", lambda rows: Outlook(**rows[0]), due_from=due_from, queues=as_json(queues))

    def count_ended(self, counts: Sequence[Mapping[str, Any]]) -> list[Call[None]]:
        """To be said in one transaction."""
        return [self._call("hurry", nothing), self._call("count_ended", nothing, counts=as_json(counts))]

    def orphans(self, worker_id: int, newest_claim: int, running: Sequence[int]) -> Call[list[Orphan]]:
        values = {"worker_id": worker_id, "newest_claim": newest_claim, "running": list(running)}
        return self._call("orphans", lambda rows: [Orphan(**row) for row in rows], **values)


def _lanes(rows: list[Row]) -> list[tuple[str, int]]:
    return [(row["queue"], row["priority"]) for row in rows]
