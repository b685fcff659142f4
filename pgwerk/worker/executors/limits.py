"""How long an attempt may take."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from typing import TYPE_CHECKING, Any

from pgwerk.errors import JobTimeout

if TYPE_CHECKING:
    from collections.abc import Coroutine

LEEWAY = 0.5  # seconds in which a coroutine elsewhere says by itself that its time is over


async def in_time(coroutine: Coroutine[Any, Any, Any], timeout: float | None, began: float) -> Any:
    """Of an attempt that `began` then, by `time.monotonic`. What gave the coroutine may have taken all of its time, or
    have gone on although it was told to end: then it is not begun.
    """
    home = os.getpid()
    left = math.inf if timeout is None else began + timeout - time.monotonic()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - only tasks await
    if left <= 0 or task.cancelling():
        coroutine.close()
        raise late(timeout) if left <= 0 else asyncio.CancelledError
    try:
        return await (coroutine if timeout is None else _limited(coroutine, timeout, left))
    finally:
        stay_home(home)


async def _limited(coroutine: Coroutine[Any, Any, Any], timeout: float, left: float) -> Any:
    try:
        async with asyncio.timeout(left) as limit:
            result = await coroutine
    except TimeoutError as error:
        if limit.expired():
            raise late(timeout) from error
        raise
    if limit.expired():  # it would not be cancelled, and came back too late
        raise late(timeout)
    return result


def stay_home(home: int) -> None:
    """A handler that forks may come back in the child too: that has no business here, on the worker's connections. It
    says so without Python's streams and logs, whose locks a thread that is not here may have held.
    """
    if os.getpid() != home:
        with contextlib.suppress(OSError):
            os.write(2, b"a handler has forked and come back in the child; process %d ends here\n" % os.getpid())
        os._exit(1)


def late(timeout: float | None) -> JobTimeout:
    return JobTimeout(f"the attempt took longer than its {timeout or 0:g} s")
