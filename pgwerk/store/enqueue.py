from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pgwerk.store.catalogue import Catalogue, as_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.wire import Call, Row


class Inserted(NamedTuple):
    id: int
    fresh: bool
    """False: the key was taken, nothing was written."""

    status: str | None
    scheduled_at: datetime | None
    enqueued_at: datetime
    expires_at: datetime | None
    unknown: list[int] | None
    """Dependencies that do not exist: nothing at all was written."""


NEEDS_MORE = frozenset(("key", "depends_on", "delay", "at", "waited"))
"""Columns of a job of which more must be known before it can be written."""


class EnqueueStore(Catalogue):
    def enqueue(self, columns: Sequence[dict[str, Any]], *, always_notify: bool) -> Call[list[Inserted]]:
        values = {"specs": as_json(columns), "channel": self.channel, "always": always_notify}
        if all(map(NEEDS_MORE.isdisjoint, columns)):
            return self._call("enqueue_now", partial(_inserted_now, columns), **values)
        return self._call("enqueue", _inserted, **values)


def _inserted(rows: list[Row]) -> list[Inserted]:
    return [Inserted(*(row[name] for name in Inserted._fields)) for row in rows]


def _inserted_now(columns: Sequence[dict[str, Any]], rows: list[Row]) -> list[Inserted]:
    ((ids, enqueued_at),) = [(row["ids"], row["enqueued_at"]) for row in rows]
    expiries = [enqueued_at + timedelta(seconds=each["ttl"]) if "ttl" in each else None for each in columns]
    return [
        Inserted(job_id, True, "queued", None, enqueued_at, expires_at, None)
        for job_id, expires_at in zip(ids, expiries, strict=True)
    ]
