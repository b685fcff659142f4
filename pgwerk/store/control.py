from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgwerk.store.catalogue import Catalogue, every, job_ids, nothing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgwerk.wire import Call, Row


class ControlStore(Catalogue):
    def get_jobs(self, ids: Sequence[int]) -> Call[list[Row]]:
        return self._call("get_jobs", every, ids=list(ids))

    def list_jobs(self, before: int | None, limit: int, offset: int, **filters: Any) -> Call[list[Row]]:
        return self._call("list_jobs", every, ids_alone=False, **_page(before, limit, offset, filters))

    def list_ids(self, before: int | None, limit: int, **filters: Any) -> Call[list[int]]:
        return self._call("list_jobs", job_ids, ids_alone=True, **_page(before, limit, 0, filters))

    def executions(self, job_id: int) -> Call[list[Row]]:
        return self._call("executions", every, job_id=job_id)

    def dependencies(self, job_id: int) -> Call[list[tuple[int, bool]]]:
        return self._call(
            "dependencies", lambda rows: [(row["on_id"], row["allow_failure"]) for row in rows], job_id=job_id
        )

    def find_key(self, key: str) -> Call[int | None]:
        return self._call("find_key", lambda rows: rows[0]["id"] if rows else None, key=key)

    def update(self, job_id: int, change: Mapping[str, Any]) -> Call[bool]:
        return self._call("update", bool, job_id=job_id, channel=self.channel, **change)

    def requeue(self, ids: Sequence[int]) -> Call[list[Row]]:
        return self._call("requeue", every, ids=list(ids), channel=self.channel)

    def abort(self, job_id: int) -> Call[bool]:
        return self._call("abort", bool, job_id=job_id, channel=self.channel)

    def touch(self, job_id: int) -> Call[bool]:
        return self._call("touch_job", bool, job_id=job_id)

    def let_go(self, ids: Sequence[int], *, anew: bool) -> Call[list[int]]:
        return self._call("let_go", job_ids, ids=list(ids), anew=anew)

    def ended_before(self, status: str, seconds: float, batch: int) -> Call[list[int]]:
        values = {"status": status, "seconds": seconds, "batch": batch}
        return self._call("ended_before", job_ids, **values)

    def truncate(self) -> Call[None]:
        return self._call("truncate", nothing)

    def is_pending(self, job_id: int) -> Call[bool]:
        return self._call("is_pending", lambda rows: bool(rows[0]["is_pending"]), job_id=job_id)

    def wait_for(self, row: int, job_id: int, seconds: float) -> Call[None]:
        return self._call("wait_for", nothing, row=row, job_id=job_id, seconds=seconds)

    def ended_of(self, ids: Sequence[int]) -> Call[set[int]]:
        return self._call("ended_of", lambda rows: {row["job_id"] for row in rows}, ids=list(ids))

    def stop_waiting(self, rows: Sequence[int]) -> Call[None]:
        return self._call("stop_waiting", nothing, rows=list(rows))


def _page(before: int | None, limit: int, offset: int, filters: Mapping[str, Any]) -> dict[str, Any]:
    plainly = {"status", "queue", "callbacks"}
    is_filtered = not filters["callbacks"] or any(
        value is not None for name, value in filters.items() if name not in plainly
    )
    page = {"before": 2**63 - 1 if before is None else before, "limit": limit, "offset": offset}
    return {**filters, **page, "page": min(limit + offset, 2**63 - 1), "is_filtered": is_filtered}
