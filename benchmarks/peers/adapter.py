"""What the adapters share: the job, and the command line `python ADAPTER.py FUNCTION DSN [JOBS]`."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

Function = Callable[..., Coroutine[Any, Any, float | None]]

_runs = count()


async def noop() -> None:
    """Do nothing but be counted: what is measured is the queue's own work."""
    next(_runs)


def expect_runs(jobs: int) -> None:
    """Every job ran, once, in this process."""
    if (ran := next(_runs)) != jobs:
        raise RuntimeError(f"{ran} jobs ran where {jobs} were expected")


def main(*functions: Function, run: Callable[..., float | None] = asyncio.run) -> None:
    """Call one of `functions` and print its seconds as a line of JSON: 0 for one that is not timed."""
    name, dsn, *jobs = sys.argv[1:]
    function = {known.__name__: known for known in functions}[name]
    seconds = run(function(dsn, *map(int, jobs)))
    print(json.dumps({"function": name, "seconds": seconds or 0.0}))
