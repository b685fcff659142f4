"""Handlers for the tests: importable by every worker, in this process or another."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from pgwerk import Context


async def noop() -> None:
    pass


async def echo(value: Any) -> Any:
    return value


async def remember(ctx: Context) -> str:
    """A callback."""
    return f"job {ctx.job.id} {ctx.job.status}: {ctx.job.error or ctx.job.result}"


def square(number: int) -> int:
    return number * number


async def fail(message: str = "on purpose") -> None:
    raise ValueError(message)


async def fail_until(ctx: Context, attempt: int) -> int:
    """Succeeds in the attempt of that number."""
    if ctx.job.attempts < attempt:
        raise ValueError(f"attempt {ctx.job.attempts} of {ctx.job.max_attempts}")
    return ctx.job.attempts


async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


def block(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked"


async def write(path: str | Path, text: str) -> None:
    """Appends a line: a fact that a test in another process can wait for."""
    with open(path, "a") as file:  # noqa: ASYNC230, PTH123
        file.write(text + "\n")


async def write_and_sleep(path: str, text: str, seconds: float) -> None:
    await write(path, text)
    await asyncio.sleep(seconds)


async def write_and_block(path: str, text: str, seconds: float) -> None:
    """Holds up the event loop."""
    await write(path, text)
    block(seconds)


async def write_and_block_in_a_task(path: str, text: str, seconds: float) -> None:
    await asyncio.gather(write_and_block(path, text, seconds))


async def fail_when_there(path: str) -> None:
    """As soon as that file is there."""
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    raise ValueError("on purpose")


async def clean_up_slowly(path: str, seconds: float) -> None:
    """Says when it was told to end, and when it had cleaned up."""
    try:
        await asyncio.sleep(3600)
    finally:
        await write(path, "told")
        await asyncio.sleep(seconds)
        await write(path, "cleaned")


_kept: list[bytearray] = []


def keep_megabytes(count: int) -> None:
    """As a handler that leaks."""
    _kept.append(bytearray(b"x") * (count * 2**20))
