"""Runs handlers in threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pgwerk.worker.executors.limits import LEEWAY, in_time, late
from pgwerk.worker.executors.work import call_of, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pgwerk.app import Werk
    from pgwerk.config import WerkConfig
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
        told: asyncio.CancelledError | None = None
        try:
            await asyncio.wait([running], timeout=timeout)
            if not thread.done():
                await self._part(call, running)
        except asyncio.CancelledError as end:
            if thread.cancel():  # the asyncio future would say yes to any
                raise
            told = end
            if isinstance(call, OwnLoop):
                call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._part(call, running)
        if not thread.done():
            thread.add_done_callback(_discard)
            on_stuck(running)
            raise told or late(timeout)
        result, error = thread.result()
        if error is not None:
            raise error
        return result

    async def _part(self, call: Callable[[], Any], running: asyncio.Future[Any]) -> None:
        """A coroutine that hears in its thread of its end gets a moment to clean up."""
        if isinstance(call, OwnLoop) and call.is_coroutine:
            await asyncio.wait([running], timeout=LEEWAY)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class OwnLoop:
    """A call that, if it gives a coroutine, runs that too: on an event loop of its own, in whatever thread calls it."""

    def __init__(self, call: Callable[[], Any], timeout: float | None, *, is_coroutine: bool) -> None:
        self._call, self._timeout, self._began = call, timeout, time.monotonic()
        self.is_coroutine = is_coroutine
        """By now, or surely in a moment; before that nothing in the thread can be cancelled."""

        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._is_cancelled = False

    def __call__(self) -> Any:
        result = self._call()
        if not asyncio.iscoroutine(result):
            return result
        self.is_coroutine = True
        return asyncio.run(self._run(result))

    def cancel(self) -> None:
        """From another thread."""
        self._is_cancelled = True
        if self._running is not None:
            loop, task = self._running
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(task.cancel)

    async def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio.run made it
        self._running = asyncio.get_running_loop(), task
        if self._is_cancelled:
            task.cancel()
        return await in_time(coroutine, self._timeout, self._began)


class ThreadExecutor:
    def __init__(self, app: Werk, worker: WorkerIdentity, config: WerkConfig) -> None:
        self._app, self._worker = app, worker
        self._threads = Threads(config.concurrency)

    async def run(self, work: Work, touch: Callable[[], None], on_stuck: Stuck) -> bytes | None:
        handler, call = call_of(work, self._app, self._worker, touch)
        timeout = work.row.timeout_secs
        call = OwnLoop(call, timeout, is_coroutine=handler.is_async)
        return stored(await self._threads.run(call, timeout, on_stuck), work, self._app.serializer)

    def close(self) -> None:
        self._threads.close()


def _caught(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """A future that holds a SystemExit or a KeyboardInterrupt would end the event loop that looks at it."""
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - it becomes the attempt's error
        return None, error


def _discard(thread: Future[tuple[Any, BaseException | None]]) -> None:
    """A coroutine that comes when nobody wants it any more is not begun."""
    if not thread.cancelled() and asyncio.iscoroutine(coroutine := thread.result()[0]):
        coroutine.close()
