from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgwerk.store.catalogue import Catalogue, as_json, every, nothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from pgwerk.wire import Call, Row


class ScheduleStore(Catalogue):
    def clock(self) -> Call[datetime]:
        return self._call("clock", lambda rows: rows[0]["now"])

    def due(self, without: Iterable[str]) -> Call[list[Row]]:
        return self._call("due", every, without=as_json(list(without)))

    def next_due(self, without: Iterable[str]) -> Call[float | None]:
        """In so many seconds."""
        return self._call("next_due", _seconds, without=as_json(list(without)))

    def move(
        self, name: str, seen_at: datetime | None, next_run_at: datetime | None, last_run_at: datetime | None
    ) -> Call[None]:
        """A division by zero where somebody else has."""
        values = {"name": name, "seen_at": seen_at, "next_run_at": next_run_at, "last_run_at": last_run_at}
        return self._call("move", nothing, **values)

    def get(self, name: str | None = None) -> Call[list[Row]]:
        return self._call("get_schedules", every, name=name)

    def put(
        self,
        columns: Mapping[str, Any],
        *,
        owner: str | None,
        next_run_at: datetime | None,
        replaces: bool,
        seen_at: datetime | None = None,
    ) -> Call[bool]:
        values = {"owner": owner, "next_run_at": next_run_at, "replaces": replaces, "seen_at": seen_at}
        return self._call("put_schedule", bool, **columns, **values)

    def pause(self, name: str) -> Call[bool]:
        return self._call("pause_schedule", bool, name=name)

    def resume(self, name: str, next_run_at: datetime | None) -> Call[bool]:
        return self._call("resume_schedule", bool, name=name, next_run_at=next_run_at)

    def delete(self, name: str) -> Call[bool]:
        return self._call("delete_schedule", bool, name=name)

    def unregistered(self, owner: str, names: Iterable[str]) -> Call[list[str]]:
        values = {"owner": owner, "names": as_json(list(names))}
        return self._call("unregistered", lambda rows: [row["name"] for row in rows], **values)


def _seconds(rows: list[Row]) -> float | None:
    return rows[0]["seconds"] if rows else None
