"""How long an attempt may take, without a worker."""

from __future__ import annotations

import asyncio
import time

import pytest

from pgwerk.errors import JobTimeout
from pgwerk.worker.executors.limits import in_time


async def begin(begun: list[str]) -> None:
    begun.append("begun")


async def test_what_came_before_a_coroutine_counts_and_one_that_comes_too_late_is_not_begun() -> None:
    begun: list[str] = []
    with pytest.raises(JobTimeout, match="the attempt took longer than its 60 s"):
        await in_time(begin(begun), 60, time.monotonic() - 61)
    assert begun == []


async def test_a_coroutine_of_an_attempt_that_was_told_to_end_is_not_begun() -> None:
    """A thread that gives one although it was told to end."""
    begun: list[str] = []

    async def attempt() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await in_time(begin(begun), None, time.monotonic())

    task = asyncio.create_task(attempt())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun == []
