"""Handlers that nobody should write."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from tests import handlers
from tests.faults.acts import noted

if TYPE_CHECKING:
    from pgwerk import Context


def leave() -> NoReturn:
    sys.exit(3)


def leave_at_once() -> NoReturn:
    os._exit(3)


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


async def leave_the_loop() -> NoReturn:
    sys.exit(3)


async def end_the_generator() -> NoReturn:
    raise GeneratorExit


async def leave_in_a_task() -> None:
    await asyncio.create_task(leave_the_loop())


def leave_in_a_thread() -> None:
    """As `sys.exit` in a thread: that thread ends, and nobody else."""
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    raise ValueError("the thread has left")


def close_everything() -> None:
    os.closerange(3, 4096)


def poison() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def block(ctx: Context, seconds: float) -> int:
    """No loop of the process comes round."""
    with noted(ctx) as run:
        time.sleep(seconds)
        return run


def leak(ctx: Context, megabytes: int) -> int:
    with noted(ctx) as run:
        handlers.keep_megabytes(megabytes)
        return run


def babble(ctx: Context) -> int:
    """On the streams that all share, and closes one of them."""
    with noted(ctx) as run:
        os.write(2, bytes(range(256)) * 40)
        sys.stdout.close()
        return run


def fork(ctx: Context) -> int:
    """The child leaves as it should."""
    with noted(ctx) as run:
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return run


def fork_by_library(ctx: Context) -> int:
    with noted(ctx) as run:
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[0.01])
        process.start()
        process.join()
        return run


def fork_and_return(ctx: Context) -> int:
    """The child comes back as well, as if it were the worker."""
    if (pid := os.fork()) == 0:
        return -1
    os.waitpid(pid, 0)
    with noted(ctx) as run:
        return run


async def fork_and_return_in_the_loop(ctx: Context) -> int:
    return fork_and_return(ctx)
