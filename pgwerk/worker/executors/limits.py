"""How long an attempt may take."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pgwerk.errors import JobTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable

LEEWAY = 0.5  # seconds in which a coroutine elsewhere says by itself that its time is over


async def in_time(coroutine: Awaitable[Any], timeout: float | None) -> Any:
    if timeout is None:
        return await coroutine
    try:
        async with asyncio.timeout(timeout) as limit:
            result = await coroutine
    except TimeoutError as error:
        if limit.expired():
            raise late(timeout) from error
        raise
    if limit.expired():  # it would not be cancelled, and came back too late
        raise late(timeout)
    return result


def late(timeout: float | None) -> JobTimeout:
    return JobTimeout(f"the attempt took longer than its {timeout or 0:g} s")
