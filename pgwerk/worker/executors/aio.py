"""Runs handlers on the event loop: coroutines as they are, plain functions in threads."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgwerk.worker.executors.limits import in_time
from pgwerk.worker.executors.threads import Threads
from pgwerk.worker.executors.work import call_of, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk.app import Werk
    from pgwerk.config import WerkConfig
    from pgwerk.context import WorkerIdentity
    from pgwerk.worker.executors.threads import Stuck
    from pgwerk.worker.executors.work import Work


class AioExecutor:
    def __init__(self, app: Werk, worker: WorkerIdentity, config: WerkConfig) -> None:
        self._app, self._worker = app, worker
        self._threads = Threads(config.concurrency)

    async def run(self, work: Work, touch: Callable[[], None], on_stuck: Stuck) -> bytes | None:
        handler, call = call_of(work, self._app, self._worker, touch)
        timeout, began = work.row.timeout_secs, time.monotonic()
        result = call() if handler.is_async else await self._threads.run(call, timeout, on_stuck)
        if asyncio.iscoroutine(result):
            result = await in_time(result, timeout, began)
        return stored(result, work, self._app.serializer)

    def close(self) -> None:
        self._threads.close()
