"""Workers, as users start and stop them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pgwerk import checks, events
from pgwerk.app import Werk
from pgwerk.errors import InvalidOption, InvalidType, ServerUnreachable, brief
from pgwerk.hooks import checked
from pgwerk.signals import stop_signals
from pgwerk.worker.executors.aio import AioExecutor
from pgwerk.worker.executors.processes import ForkExecutor, ProcessExecutor
from pgwerk.worker.executors.threads import ThreadExecutor
from pgwerk.worker.health import State, answering
from pgwerk.worker.hooks import Hooks
from pgwerk.worker.life import Life
from pgwerk.worker.wear import Wear

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from pgwerk.config import DequeueStrategy
    from pgwerk.scheduler import Scheduler
    from pgwerk.worker.executors.work import Executor
    from pgwerk.worker.health import Tell

    Hook = Callable[..., Any]

REBIRTH = 1.0  # seconds between two tries to begin anew while the server is away


class Worker:
    """Runs the jobs of some queues until it is told to stop. The kinds differ in where handlers run.

    Intervals are in seconds; what is not given comes from the app's config. `queues` may be a dict of weights: how
    often a queue comes first, relative to the others. `burst` stops when nothing is left that could run now.
    `scheduler` fires schedules from this process too.
    `before_process` and `after_process` are called with the attempt's context, in the worker's own process.
    """

    _executor: Callable[..., Executor]

    def __init__(
        self,
        app: Werk,
        queues: Sequence[str] | Mapping[str, float] | None = None,
        concurrency: int | None = None,
        *,
        heartbeat_interval: float | None = None,
        poll_interval: float | None = None,
        dequeue_strategy: DequeueStrategy | str | None = None,
        burst: bool = False,
        before_process: Iterable[Hook] | None = None,
        after_process: Iterable[Hook] | None = None,
        sweep_interval: float | None = None,
        abort_interval: float | None = None,
        shutdown_timeout: float | None = None,
        sigterm_grace: float | None = None,
        listen: bool | None = None,
        max_jobs: int | None = None,
        max_memory: int | None = None,
        health_port: int | None = None,
        health_host: str | None = None,
        scheduler: Scheduler | None = None,
    ) -> None:
        if not isinstance(app, Werk):
            raise InvalidType(f"a worker works for a Werk, got {brief(app)}")
        self.app = app
        self.queues = _queues(queues)
        self.weights = dict(queues) if isinstance(queues, Mapping) else None
        self.burst = checks.flag("burst", burst)
        self.hooks = Hooks(before_process, after_process)
        self.config = app.config.changed(
            concurrency=concurrency, heartbeat_interval=heartbeat_interval, poll_interval=poll_interval,
            dequeue_strategy=dequeue_strategy, sweep_interval=sweep_interval, abort_interval=abort_interval,
            shutdown_timeout=shutdown_timeout, sigterm_grace=sigterm_grace, listen=listen, max_jobs=max_jobs,
            max_memory=max_memory, health_port=health_port, health_host=health_host,
        )  # fmt: skip
        self.is_cut_short = False
        """Running jobs get no more time."""

        self._scheduler = scheduler
        self.wear = Wear(self.config.max_jobs, self.config.max_memory)
        self.is_worn = False
        """It stops, or has stopped, because of `max_jobs` or `max_memory`: another process is to take its place."""

        self.tell: Tell | None = None
        """How its parent, which answers probes for all of its processes, hears how it is."""

        self._life: Life | None = None
        self._stop_reason = ""

    @property
    def id(self) -> int | None:
        """Of this start: a worker that was declared dead and began anew has another."""
        return self._life.id if self._life else None

    @property
    def name(self) -> str | None:
        return self._life.name if self._life else None

    @property
    def is_stopping(self) -> bool:
        return bool(self._stop_reason)

    def state(self) -> State | None:
        """None: it has not begun."""
        if (life := self._life) is None:
            return None
        return State(time.monotonic(), life.id, life.running, self.is_stopping, life.heard_at)

    async def run(self) -> None:
        """Until SIGTERM, SIGINT, `stop()`, or the cancellation of this task; then what runs gets `shutdown_timeout`
        to end, and what has not ended goes back to the queue. A second signal cuts that short.
        """
        main = asyncio.create_task(self._run())
        cancelled = False
        while not main.done():
            try:
                await asyncio.shield(main)
            except asyncio.CancelledError:
                if main.done():
                    raise
                cancelled = True
                self.stop("cancelled")
        main.result()
        if cancelled:
            raise asyncio.CancelledError

    def add_before_process(self, hook: Hook) -> None:
        """Called with the context before each attempt."""
        self.hooks.before.append(checked(hook))

    def add_after_process(self, hook: Hook) -> None:
        """Called with the context after each attempt; `ctx.exception` is what it raised."""
        self.hooks.after.append(checked(hook))

    def push_exception_handler(self, handler: Hook) -> None:
        """Called with the job and the exception when an attempt has raised; the last one pushed is called first."""
        self.hooks.on_exception.append(checked(handler))

    def pop_exception_handler(self) -> Hook:
        """The last one pushed; `IndexError` where there is none."""
        return self.hooks.on_exception.pop()

    def stop(self, reason: str = "stop()") -> None:
        """The first call lets running jobs end, the second hands them back at once."""
        if self.is_stopping:
            self._cut_short()
            return
        self._stop_reason = reason
        if self._scheduler is not None:
            self._scheduler.stop()
        if self._life is not None:
            events.emit(
                events.WorkerStopping(self._life.name, reason, self._life.running, self.config.shutdown_timeout)
            )
            self._life.wind_down()
        asyncio.get_running_loop().call_later(self.config.shutdown_timeout, self._cut_short)

    async def _run(self) -> None:
        async with answering(self, self.tell), self.app:
            with stop_signals(self.stop, self._break_in):
                async with self._scheduling():
                    await self._live()

    @contextlib.asynccontextmanager
    async def _scheduling(self) -> AsyncIterator[None]:
        """Ticks are taken from before the first job until the worker is to stop."""
        if self._scheduler is None:
            yield
            return
        await self._scheduler.sync()
        serving = asyncio.create_task(self._scheduler.serve())
        try:
            yield
        finally:
            self._scheduler.stop()
            await serving

    async def _live(self) -> None:
        """One life, unless others take this worker for dead: then it begins anew, under a new identity."""
        while (life := await self._born()) is not None:
            self._life = life
            await life.run()
            if self.is_stopping or not life.is_lost:
                break
        if self.is_worn and not self.wear.has_worked:
            events.emit(events.WornUnused(self.name or "", self._stop_reason))
        events.emit(events.WorkerStopped(self.name or "", self._stop_reason or "nothing is left"))

    async def _born(self) -> Life | None:
        """The first life needs a server; a later one waits for it, unless the worker is to stop."""
        while True:
            executor = self._executor(self.app, self, self.config)  # threads of an earlier life may never return
            life = Life(self, executor)
            try:
                await life.begin()
            except ServerUnreachable:
                life.close()
                if self._life is None:
                    raise
                if self.is_stopping:
                    return None
                await asyncio.sleep(REBIRTH)
            else:
                return life

    def stop_if_worn(self) -> None:
        """What runs ends as with any other stop."""
        if not self.is_stopping and (reason := self.wear.reason()) is not None:
            self.is_worn = True
            self.stop(reason)

    def _cut_short(self) -> None:
        self.is_cut_short = True
        if self._life is not None:
            self._life.interrupt()
            self._life.look()

    def _break_in(self) -> None:
        if self._life is not None:
            self._life.break_in()


class AsyncWorker(Worker):
    """Coroutines run on the event loop, plain functions in threads."""

    _executor = AioExecutor


class ThreadWorker(Worker):
    """Each job runs in a thread, a coroutine on an event loop of that thread. A thread cannot be killed: past its
    timeout it keeps its slot until it returns.
    """

    _executor = ThreadExecutor


class ProcessWorker(Worker):
    """Jobs run in a pool of kept processes, forked from this one. Past its timeout a process is killed and replaced."""

    _executor = ProcessExecutor


class ForkWorker(Worker):
    """Each job runs in a process of its own, forked for it. `sigterm_grace`: seconds from SIGTERM to SIGKILL."""

    _executor = ForkExecutor


WORKERS: dict[str, type[Worker]] = {  # by the names that the command line and `Werk.run` have for them
    "async": AsyncWorker,
    "thread": ThreadWorker,
    "process": ProcessWorker,
    "fork": ForkWorker,
}


def worker_of(kind: str) -> type[Worker]:
    if checks.text("worker_type", kind) not in WORKERS:
        raise InvalidOption(f"a worker is of the kind {', '.join(WORKERS)}, got {brief(kind)}")
    return WORKERS[kind]


def _queues(queues: Sequence[str] | Mapping[str, float] | None) -> list[str]:
    if isinstance(queues, str):
        raise InvalidType(f"queues must be a list of names, got the text {brief(queues)}")
    names: list[Any] = ["default"] if queues is None else checks.several("queues", queues)
    if not names or not all(names):
        raise InvalidOption(f"queues must be at least one name, got {brief(queues)}")
    return list(dict.fromkeys(checks.name("a queue", queue) for queue in names))
