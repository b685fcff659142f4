from __future__ import annotations

from typing import TYPE_CHECKING

from pgwerk.store.catalogue import Catalogue, every, nothing

if TYPE_CHECKING:
    from pgwerk.wire import Call, Row


class OverviewStore(Catalogue):
    def why(self, job_id: int, most: int) -> Call[list[Row]]:
        return self._call("why", every, job_id=job_id, most=most)

    def list_workers(self, worker_id: int | None) -> Call[list[Row]]:
        return self._call("list_workers", every, worker_id=worker_id)

    def list_queues(self, most: int) -> Call[list[Row]]:
        return self._call("list_queues", every, most=most)

    def queue_stats(self, *, callbacks: bool) -> Call[list[Row]]:
        return self._call("queue_stats", every, callbacks=callbacks)

    def pause_queue(self, queue: str) -> Call[bool]:
        return self._call("pause_queue", bool, queue=queue)

    def resume_queue(self, queue: str) -> Call[bool]:
        return self._call("resume_queue", bool, queue=queue, channel=self.channel)

    def throughput(self, minutes: int, queue: str | None) -> Call[list[Row]]:
        return self._call("throughput", every, minutes=minutes, queue=queue)

    def function_stats(self, minutes: int, queue: str | None) -> Call[list[Row]]:
        return self._call("function_stats", every, minutes=minutes, queue=queue)

    def server_info(self) -> Call[Row]:
        return self._call("server_info", lambda rows: rows[0], quoted_schema=f'"{self.schema}"')

    def vacuum(self) -> Call[None]:
        return self._call("vacuum", nothing)
