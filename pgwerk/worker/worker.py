"""Workers, as users start and stop them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgwerk import events
from pgwerk.errors import InvalidOption, InvalidType, ServerUnreachable
from pgwerk.worker.executors.aio import AioExecutor
from pgwerk.worker.life import Life
from pgwerk.worker.signals import stop_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.app import Werk

REBIRTH = 1.0  # seconds between two tries to begin anew while the server is away


class AsyncWorker:
    """Runs jobs in this process: coroutines on the event loop, plain functions in threads.

    Intervals are in seconds; what is not given comes from the app's config. `burst` stops when nothing is left that
    could run now.
    """

    def __init__(
        self,
        app: Werk,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        *,
        heartbeat_interval: float | None = None,
        poll_interval: float | None = None,
        sweep_interval: float | None = None,
        shutdown_timeout: float | None = None,
        listen: bool | None = None,
        burst: bool = False,
    ) -> None:
        self.app = app
        self.queues = _queues(queues)
        self.burst = burst
        self.config = app.config.changed(
            concurrency=concurrency, heartbeat_interval=heartbeat_interval, poll_interval=poll_interval,
            sweep_interval=sweep_interval, shutdown_timeout=shutdown_timeout, listen=listen,
        )  # fmt: skip
        self.is_cut_short = False
        """Running jobs get no more time."""

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
                    break
                cancelled = True
                self.stop("cancelled")
        main.result()
        if cancelled:
            raise asyncio.CancelledError

    def stop(self, reason: str = "stop()") -> None:
        """The first call lets running jobs end, the second hands them back at once."""
        if self.is_stopping:
            self._cut_short()
            return
        self._stop_reason = reason
        if self._life is not None:
            events.emit(
                events.WorkerStopping(self._life.name, reason, self._life.running, self.config.shutdown_timeout)
            )
            self._life.wind_down()
        asyncio.get_running_loop().call_later(self.config.shutdown_timeout, self._cut_short)

    async def _run(self) -> None:
        async with self.app:
            with stop_signals(self.stop):
                await self._live()

    async def _live(self) -> None:
        """One life, unless others take this worker for dead: then it begins anew, under a new identity."""
        while (life := await self._born()) is not None:
            self._life = life
            await life.run()
            if self.is_stopping or not life.is_lost:
                break
        events.emit(events.WorkerStopped(self.name or "", self._stop_reason or "nothing is left"))

    async def _born(self) -> Life | None:
        """The first life needs a server; a later one waits for it, unless the worker is to stop."""
        while True:
            life = Life(self, AioExecutor(self.config.concurrency))  # threads of an earlier life may never return
            try:
                await life.begin()
            except ServerUnreachable:
                if self._life is None:
                    raise
                if self.is_stopping:
                    return None
                await asyncio.sleep(REBIRTH)
            else:
                return life

    def _cut_short(self) -> None:
        self.is_cut_short = True
        if self._life is not None:
            self._life.interrupt()
            self._life.look()


def _queues(queues: Sequence[str] | None) -> list[str]:
    if isinstance(queues, str):
        raise InvalidType(f"queues must be a list of names, got the text {queues!r}")
    names = list(dict.fromkeys(["default"] if queues is None else queues))
    if not names or not all(names):
        raise InvalidOption(f"queues must be at least one name, got {queues!r}")
    return names
