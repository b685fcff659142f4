"""Runs handlers on the event loop: coroutines as they are, plain functions in threads."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pgwerk.errors import JobTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk.context import Context
    from pgwerk.handlers import Handler
    from pgwerk.job import Job

    Stuck = Callable[[asyncio.Future[Any], Job], None]


class AioExecutor:
    def __init__(self, concurrency: int) -> None:
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="pgwerk")

    async def run(self, handler: Handler, ctx: Context, on_stuck: Stuck) -> Any:
        """What the handler returns or raises; `JobTimeout` after the job's `_timeout`. A thread that is still running
        then is handed to `on_stuck`: it cannot be killed."""
        payload = ctx.job.payload or {}
        args = (ctx, *payload["args"]) if handler.takes_context else payload["args"]
        if handler.is_async:
            return await _in_time(handler.function(*args, **payload["kwargs"]), ctx)
        return await self._in_thread(handler, ctx, args, payload["kwargs"], on_stuck)

    async def _in_thread(
        self, handler: Handler, ctx: Context, args: Any, kwargs: Any, on_stuck: Stuck
    ) -> Any:
        context = contextvars.copy_context()
        call = asyncio.wrap_future(self._threads.submit(context.run, _guarded, handler.function, args, kwargs))
        try:
            done, _ = await asyncio.wait([call], timeout=ctx.job.timeout_secs)
        except asyncio.CancelledError:
            if not call.cancel():
                on_stuck(call, ctx.job)
            raise
        if not done:
            on_stuck(call, ctx.job)
            raise _timeout(ctx)
        result, error = call.result()
        if error is not None:
            raise error
        return await _in_time(result, ctx) if asyncio.iscoroutine(result) else result

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _guarded(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, BaseException | None]:
    """A future that holds a SystemExit or a KeyboardInterrupt would end the event loop that looks at it."""
    try:
        return function(*args, **kwargs), None
    except BaseException as error:  # noqa: BLE001 - it becomes the attempt's error
        return None, error


async def _in_time(coroutine: Any, ctx: Context) -> Any:
    if ctx.job.timeout_secs is None:
        return await coroutine
    try:
        async with asyncio.timeout(ctx.job.timeout_secs) as limit:
            return await coroutine
    except TimeoutError as error:
        if limit.expired():
            raise _timeout(ctx) from error
        raise


def _timeout(ctx: Context) -> JobTimeout:
    return JobTimeout(f"the attempt took longer than its {ctx.job.timeout_secs:g} s")
