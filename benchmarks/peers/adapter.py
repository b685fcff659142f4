"""What the adapters share: the job, and the parts that a process of a system plays.

    python peers/ADAPTER.py setup|produce|work|backlogs WHERE [CONCURRENCY]

A producer does what each line of its input says, and answers each with a line of JSON; a worker says that it is
ready, waits for a line, and runs until it is terminated. An adapter is a class with the functions of `Peer`, plain or
async, as its system has them, and says by which SQL a backlog of each kind comes to be in its system's own tables.
Only the standard library is imported here: each system has an environment of its own.
"""

import asyncio
import inspect
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

TASKS = 50
RUN = struct.Struct("dd")
"""One run in the log: when the job was enqueued (0: not said), and when it ran."""

NEXT_MONTH = "now() + interval '30 days'"

Maybe = Any
"""What is said, or a coroutine that gives it."""

Figures = dict[str, float]
P = TypeVar("P", bound="Peer")


class Peer(Protocol):
    """A system. Each process makes one, in a running event loop."""

    def __init__(self, where: str) -> None: ...

    def setup(self) -> Maybe:
        """Makes what it needs in an empty database: `None`."""

    def open(self) -> Maybe:
        """Gets ready to enqueue, as an application does once when it starts: `None`."""

    def enqueue(self, sent: float) -> Maybe:
        """Enqueues one `job(sent)`; when it returns, the system has it: `None`."""

    def enqueue_bulk(self, jobs: int) -> Maybe:
        """Enqueues so many of `job(0.0)` by the fastest way that is documented: `None`."""

    def unfinished(self) -> Maybe:
        """How many jobs have not ended, by the system's own records: `int`."""

    def work(self, concurrency: int) -> Maybe:
        """Runs a worker until the process is terminated."""


def job(sent: float) -> None:
    """Leaves a trace that no other process overwrites; what is measured is the queue's own work."""
    os.write(_log(), RUN.pack(sent, time.monotonic()))


_opened: dict[int, int] = {}


def _log() -> int:
    if (process := os.getpid()) not in _opened:
        _opened[process] = os.open(os.environ["BENCH_LOG"], os.O_WRONLY | os.O_APPEND)
    return _opened[process]


def rows(table: str, **columns: str) -> str:
    """A statement that writes `:size` rows; each column is an expression, in which `n` is the number of the row."""
    names, values = ", ".join(columns), ", ".join(columns.values())
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series(1, :size) n"


class Producer:
    """What the benchmark says is done here, and timed here."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._is_async = inspect.iscoroutinefunction(peer.enqueue)

    async def open(self) -> None:
        await _said(self._peer.open())

    async def one_by_one(self, seconds: float) -> Figures:
        """For so long; the first ones, which connect and prepare, are not counted."""
        for _ in range(10):
            await _said(self._peer.enqueue(0.0))
        return _costs(*await self._several(seconds))

    async def tasks(self, seconds: float) -> Figures:
        """Fifty at once; threads where enqueueing blocks."""
        began = time.perf_counter()
        if self._is_async:
            done = await asyncio.gather(*(self._several(seconds) for _ in range(TASKS)))
        else:
            with ThreadPoolExecutor(TASKS) as threads:
                each = [threads.submit(asyncio.run, self._several(seconds)) for _ in range(TASKS)]
            done = [thread.result() for thread in each]
        return _costs(sum(jobs for jobs, _ in done), time.perf_counter() - began)

    async def bulk(self, jobs: int) -> Figures:
        began = time.perf_counter()
        await _said(self._peer.enqueue_bulk(jobs))
        return _costs(jobs, time.perf_counter() - began)

    async def trickle(self, jobs: int, pause: float) -> Figures:
        """One now and then, each with the time at which it was enqueued."""
        began = time.perf_counter()
        for _ in range(jobs):
            await _said(self._peer.enqueue(time.monotonic()))
            await asyncio.sleep(pause)
        return _costs(jobs, time.perf_counter() - began)

    async def unfinished(self) -> int:
        found: int = await _said(self._peer.unfinished())
        return found

    async def _several(self, seconds: float) -> tuple[int, float]:
        began, jobs = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            await _said(self._peer.enqueue(0.0))
            jobs += 1
        return jobs, passed


def play(
    make: Callable[[str], P],
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run,
    producer: Callable[[P], Producer] = Producer,
    backlogs: Mapping[str, str] = MappingProxyType({}),
) -> None:
    role, where, *rest = sys.argv[1:]
    match role:
        case "backlogs":
            print(json.dumps(dict(backlogs)))
        case "setup":
            run(_setup(make, where))
        case "produce":
            run(_produce(make, producer, where))
        case "work":
            run(_work(make, where, *rest))


async def _setup(make: Callable[[str], Peer], where: str) -> None:
    await _said(make(where).setup())


async def _work(make: Callable[[str], Peer], where: str, concurrency: str) -> None:
    worker = make(where)
    print("ready", flush=True)
    sys.stdin.readline()
    await _said(worker.work(int(concurrency)))


async def _produce(make: Callable[[str], P], producing: Callable[[P], Producer], where: str) -> None:
    producer = producing(make(where))
    await producer.open()
    print("ready", flush=True)
    for line in sys.stdin:
        verb, *numbers = json.loads(line)
        print(json.dumps(await getattr(producer, verb)(*numbers)), flush=True)


def _costs(jobs: int, seconds: float) -> Figures:
    return {"jobs": jobs, "seconds": seconds, "memory": _peak_memory()}


def _peak_memory() -> int:
    """Bytes. What `resource` tells would count the process that this one was started from."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


async def _said(value: Maybe) -> Any:
    return await value if inspect.isawaitable(value) else value
