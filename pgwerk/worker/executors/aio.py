"""Runs handlers on the event loop: coroutines as they are, plain functions in threads."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pgwerk.errors import JobTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Stuck = Callable[[asyncio.Future[Any]], None]


class AioExecutor:
    def __init__(self, concurrency: int) -> None:
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="pgwerk")

    async def run(self, call: Callable[[], Any], timeout: float | None, *, is_async: bool, on_stuck: Stuck) -> Any:
        """What the handler returns or raises; `JobTimeout` after so many seconds. A thread that is still running then
        is handed to `on_stuck`: it cannot be killed.
        """
        result = call() if is_async else await self._in_thread(call, timeout, on_stuck)
        return await _in_time(result, timeout) if asyncio.iscoroutine(result) else result

    async def _in_thread(self, call: Callable[[], Any], timeout: float | None, on_stuck: Stuck) -> Any:
        thread = self._threads.submit(contextvars.copy_context().run, _caught, call)
        running = asyncio.wrap_future(thread)
        try:
            done, _ = await asyncio.wait([running], timeout=timeout)
        except asyncio.CancelledError:
            if not thread.cancel():  # the asyncio future would say yes to any
                on_stuck(running)
            raise
        if not done:
            on_stuck(running)
            raise _late(timeout)
        result, error = running.result()
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _caught(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """A future that holds a SystemExit or a KeyboardInterrupt would end the event loop that looks at it."""
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - it becomes the attempt's error
        return None, error


async def _in_time(coroutine: Awaitable[Any], timeout: float | None) -> Any:
    if timeout is None:
        return await coroutine
    try:
        async with asyncio.timeout(timeout) as limit:
            result = await coroutine
    except TimeoutError as error:
        if limit.expired():
            raise _late(timeout) from error
        raise
    if limit.expired():  # it would not be cancelled, and came back too late
        raise _late(timeout)
    return result


def _late(timeout: float | None) -> JobTimeout:
    return JobTimeout(f"the attempt took longer than its {timeout or 0:g} s")
