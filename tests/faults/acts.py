"""Handlers that note what they do in the log of the history (PGWERK_TEST_LOG names its database)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import cache
from typing import TYPE_CHECKING

from tests.faults.history.log import VARIABLE, Log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgwerk import Context


class OnPurpose(Exception):
    pass


@cache
def log() -> Log:
    return Log(os.environ[VARIABLE])


async def work(ctx: Context, seconds: float = 0.0, failures: int = 0) -> int:
    """Takes its time, and fails in its first attempts."""
    with noted(ctx) as run:
        await asyncio.sleep(seconds)
        if ctx.job.attempts <= failures:
            raise OnPurpose(f"attempt {ctx.job.attempts} of {failures} that fail")
        return run


async def on_success(ctx: Context) -> int:
    return _hear("on_success", ctx)


async def on_failure(ctx: Context) -> int:
    return _hear("on_failure", ctx)


async def on_stopped(ctx: Context) -> int:
    return _hear("on_stopped", ctx)


@contextlib.contextmanager
def noted(ctx: Context) -> Iterator[int]:
    """A run of a job: its handler is to return the number."""
    job = ctx.job
    with _noted(log().started((job.meta or {}).get("name"), ctx.worker.id, job.id, job.attempts)) as run:
        yield run


def _hear(name: str, ctx: Context) -> int:
    with _noted(log().told(name, ctx.worker.id, ctx.job.id)) as run:
        return run


@contextlib.contextmanager
def _noted(run: int) -> Iterator[int]:
    how = "returned"
    try:
        yield run
    except BaseException as error:
        how = "cancelled" if isinstance(error, asyncio.CancelledError) else "raised"
        raise
    finally:
        log().ended(run, how)
