from __future__ import annotations

from datetime import datetime
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


class EnqueueStore(Catalogue):
    def enqueue(self, columns: Sequence[dict[str, Any]], *, always_notify: bool) -> Call[list[Inserted]]:
        values = {"specs": as_json(columns), "channel": self.channel, "always": always_notify}
        return self._call("enqueue", _inserted, **values)


def _inserted(rows: list[Row]) -> list[Inserted]:
    return [Inserted(*(row[name] for name in Inserted._fields)) for row in rows]
