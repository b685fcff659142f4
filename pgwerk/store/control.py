from __future__ import annotations

from typing import TYPE_CHECKING

from pgwerk.store.catalogue import Catalogue, every, nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.wire import Call, Row


class ControlStore(Catalogue):
    def get_jobs(self, ids: Sequence[int]) -> Call[list[Row]]:
        return self._call("get_jobs", every, ids=list(ids))

    def list_jobs(
        self, *, queue: str | None, status: str | None, function: str | None, key: str | None,
        before: int | None, limit: int, offset: int,
    ) -> Call[list[Row]]:  # fmt: skip
        filters = {"queue": queue, "status": status, "function": function, "key": key}
        return self._call("list_jobs", every, before=before, limit=limit, offset=offset, **filters)

    def executions(self, job_id: int) -> Call[list[Row]]:
        return self._call("executions", every, job_id=job_id)

    def is_pending(self, job_id: int) -> Call[bool]:
        return self._call("is_pending", lambda rows: bool(rows[0]["is_pending"]), job_id=job_id)

    def wait_for(self, job_id: int, seconds: float) -> Call[None]:
        return self._call("wait_for", nothing, job_id=job_id, seconds=seconds)

    def ended_of(self, ids: Sequence[int]) -> Call[set[int]]:
        return self._call("ended_of", lambda rows: {row["job_id"] for row in rows}, ids=list(ids))

    def stop_waiting(self, ids: Sequence[int]) -> Call[None]:
        return self._call("stop_waiting", nothing, ids=list(ids))
