"""Runs handlers in threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pgwerk.worker.executors.limits import LEEWAY, in_time, late
from pgwerk.worker.executors.work import call_of, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk.app import Werk
    from pgwerk.context import WorkerIdentity
    from pgwerk.worker.executors.work import Work

    Stuck = Callable[[asyncio.Future[Any]], None]


class Threads:
    """A thread cannot be ended: one that runs on past its time is handed to `on_stuck`, and nobody waits for it. What
    one that is no longer wanted gives in spite of that is taken.
    """

    def __init__(self, concurrency: int) -> None:
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="pgwerk")

    async def run(self, call: Callable[[], Any], timeout: float | None, on_stuck: Stuck) -> Any:
        thread = self._pool.submit(contextvars.copy_context().run, _caught, call)
        running = asyncio.wrap_future(thread)
        try:
            await asyncio.wait([running], timeout=timeout)
        except asyncio.CancelledError:
            if thread.cancel():  # the asyncio future would say yes to any
                raise
            await self._part(call, running)
            if not thread.done():
                on_stuck(running)
                raise
        if not thread.done():
            on_stuck(running)
            raise late(timeout)
        result, error = thread.result()
        if error is not None:
            raise error
        return result

    async def _part(self, call: Callable[[], Any], running: asyncio.Future[Any]) -> None:
        """A coroutine in its thread can be cancelled there, and gets a moment to clean up."""
        if isinstance(call, OwnLoop):
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running], timeout=LEEWAY)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class OwnLoop:
    """A coroutine as a call: on an event loop of its own, in whatever thread calls it."""

    def __init__(self, call: Callable[[], Any], timeout: float | None) -> None:
        self._call, self._timeout = call, timeout
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._is_cancelled = False

    def __call__(self) -> Any:
        return asyncio.run(self._run())

    def cancel(self) -> None:
        """From another thread."""
        self._is_cancelled = True
        if self._running is not None:
            loop, task = self._running
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(task.cancel)

    async def _run(self) -> Any:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio.run made it
        self._running = asyncio.get_running_loop(), task
        if self._is_cancelled:
            raise asyncio.CancelledError
        return await in_time(self._call(), self._timeout)


class ThreadExecutor:
    def __init__(self, app: Werk, worker: WorkerIdentity, concurrency: int, _sigterm_grace: float) -> None:
        self._app, self._worker = app, worker
        self._threads = Threads(concurrency)

    async def run(self, work: Work, touch: Callable[[], None], on_stuck: Stuck) -> bytes | None:
        handler, call = call_of(work, self._app, self._worker, touch)
        timeout = work.row.timeout_secs
        if handler.is_async:
            call, timeout = OwnLoop(call, timeout), None if timeout is None else timeout + LEEWAY
        return stored(await self._threads.run(call, timeout, on_stuck), work, self._app.serializer)

    def close(self) -> None:
        self._threads.close()


def _caught(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """A future that holds a SystemExit or a KeyboardInterrupt would end the event loop that looks at it."""
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - it becomes the attempt's error
        return None, error
