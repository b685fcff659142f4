"""Signs of life: a worker raises its beat and watches those of the others, from a thread with a loop and a
connection of its own, so that a handler that blocks the worker's loop is not mistaken for death.

No clock is compared with another: a worker is dead when an observer has itself read the same beat for as long as
that worker asked for, by its own monotonic clock. Only the time between two looks over one connection counts: nobody
is declared dead for an outage, in which nobody could be heard, and who comes back from it beats at once. An attempt
whose sign of life is missing is judged in the same way, and a worker that reads it of one of its own gives the sign at
once: on its loop, or from here while that is blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from pgwerk import events
from pgwerk.errors import ServerUnreachable, one_line
from pgwerk.store.workers import Pulse, Sign, Silence, WorkerStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgwerk.db import Database
    from pgwerk.wire import Session

BEATS_OF_PATIENCE = 5
SILENCE = 5.0  # seconds of watching an attempt that misses its sign; it is given at least so long before it is too late
RECONNECT = 0.5  # seconds; much less than anybody's patience
CONNECT = 10.0  # seconds until a new connection has to answer
BLOCKED = 1.0  # seconds for the loop to answer before it counts as blocked


S = TypeVar("S", Pulse, Silence)


class Watch(Generic[S]):
    """What was read, and since when. The time from one connection to the next does not count."""

    def __init__(self) -> None:
        self._since: dict[S, float] = {}
        self._heard_at = 0.0
        self._is_interrupted = False

    def interrupted(self) -> None:
        """Another connection goes on with it."""
        self._is_interrupted = True

    def look(self, seen: Iterable[S], asked: float, heard: float) -> list[tuple[S, float]]:
        """What has been the same for too long, and for how many seconds. Only the time from hearing it to asking again
        counts: an observer that was itself held up in between has not observed anything.
        """
        unseen = heard - self._heard_at if self._is_interrupted else 0.0
        self._since = {each: self._since.get(each, heard - unseen) + unseen for each in seen}
        self._heard_at, self._is_interrupted = heard, False
        silent = [(each, asked - since) for each, since in self._since.items()]
        return [(each, seconds) for each, seconds in silent if seconds >= each.patience]


class Beat:
    """Of one worker. Called on its loop: `on_lost` when others have declared it dead, `on_dead` when it has declared
    another one dead or an attempt silent, `on_missing` when a sign of life of its own attempts is missing,
    `on_swallowed` when the network has swallowed a connection: its own, and a new one works, or that of the worker's
    conversation, of which `conversation` tells since when it has waited for an answer, and for whose. With the moment
    (of the monotonic clock) from which on nothing is to be expected of it.
    """

    def __init__(
        self, database: Database, worker_id: int, name: str, interval: float,
        conversation: Callable[[], tuple[float, int | None]],
        on_lost: Callable[[], None], on_dead: Callable[[], None], on_missing: Callable[[], None],
        on_swallowed: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._database, self._worker_id, self._name, self._interval = database, worker_id, name, interval
        self._store = WorkerStore(database.schema)
        self._on_lost, self._on_dead, self._on_missing, self._on_swallowed = on_lost, on_dead, on_missing, on_swallowed
        self._conversation, self._patience = conversation, interval * (BEATS_OF_PATIENCE - 1)
        self._gave_up_at: float | None = None
        self._workers, self._attempts = Watch[Pulse](), Watch[Silence]()
        self._worker_loop = asyncio.get_running_loop()
        self._worker_thread = threading.get_ident()
        self.heard_at = time.monotonic()
        """When its beat was last taken, or it came into being."""

        self._stopping = threading.Event()
        self._wake: Callable[[], object] = _nobody
        self._called_at: float | None = None
        self._is_blocked = False
        self._thread = threading.Thread(target=self._run, name=f"pgwerk-beat-{worker_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._stopping.set()
        with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended already
            self._wake()
        while self._thread.is_alive():  # noqa: ASYNC110 - not by to_thread: handlers may have filled the loop's pool
            await asyncio.sleep(0.005)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._woken = asyncio.Event()
        self._wake = partial(asyncio.get_running_loop().call_soon_threadsafe, self._woken.set)
        while not self._stopping.is_set():
            try:
                await self._over_one_connection()
            except TimeoutError:
                self._gave_up_at = time.monotonic()
                await self._sleep(RECONNECT)
            except ServerUnreachable:
                await self._sleep(RECONNECT)  # the worker's own conversation tells of the outage
            except Exception as error:  # noqa: BLE001 - a thread that ends would be the worker's death
                events.emit(events.DutyFailed("the beat", one_line(error)))
                await self._sleep(RECONNECT)

    async def _over_one_connection(self) -> None:
        self._workers.interrupted()
        self._attempts.interrupted()
        async with asyncio.timeout(CONNECT):
            session = await self._database.keep()
        if self._gave_up_at is not None:
            self._worker_loop.call_soon_threadsafe(self._on_swallowed, self._gave_up_at)
            self._gave_up_at = None
        try:
            while not self._stopping.is_set():
                self._look_at_loop()
                await self._beat(session)
                await self._look_at_conversation(session)
                await self._sleep(self._interval)
        finally:
            session.close()

    async def _beat(self, session: Session) -> None:
        asked = time.monotonic()
        async with asyncio.timeout(self._patience):
            beat = await session.run(self._store.beat(self._worker_id, SILENCE))
        self.heard_at = time.monotonic()
        if not beat.is_alive:
            self._stopping.set()
            self._worker_loop.call_soon_threadsafe(self._on_lost)
            return
        if missing := [each for each in beat.silent if each.worker_id == self._worker_id]:
            self._worker_loop.call_soon_threadsafe(self._on_missing)
            if self._is_blocked:  # a loop that comes round knows better what it still runs
                signs = [Sign(each.job_id, each.claim_no, self._interval) for each in missing]
                await session.run(self._store.touch(self._worker_id, signs))
        for pulse, seconds in self._workers.look(beat.others, asked, self.heard_at):
            name = await session.run(self._store.declare_dead(pulse))
            if name is not None:
                events.emit(events.WorkerDeclaredDead(name, seconds))
                self._worker_loop.call_soon_threadsafe(self._on_dead)
        if silent := [each for each, _ in self._attempts.look(beat.silent, asked, self.heard_at)]:
            await session.run(self._store.declare_silent(silent))
            self._worker_loop.call_soon_threadsafe(self._on_dead)

    async def _look_at_conversation(self, session: Session) -> None:
        """A loop that does not come round may have its answer, and not have read it yet."""
        asked_at, backend = self._conversation()
        if backend is None or self._called_at is not None or time.monotonic() - asked_at < self._patience:
            return
        async with asyncio.timeout(self._patience):
            is_waited_for = await session.run(self._store.is_waited_for(backend))
        if is_waited_for:
            self._worker_loop.call_soon_threadsafe(self._on_swallowed, asked_at)

    def _look_at_loop(self) -> None:
        """A loop that does not come round is said once, with the stack of whatever holds it."""
        if (called_at := self._called_at) is None:  # the loop may answer at any moment
            self._is_blocked = False
            self._called_at = time.monotonic()
            self._worker_loop.call_soon_threadsafe(self._answer)
            return
        silent_for = time.monotonic() - called_at
        if silent_for >= BLOCKED and not self._is_blocked:
            self._is_blocked = True
            frame = sys._current_frames().get(self._worker_thread)  # noqa: SLF001 - documented, if oddly named
            stack = "".join(traceback.format_stack(frame)).rstrip() if frame else "(the thread is gone)"
            events.emit(events.LoopBlocked(self._name, silent_for, stack))

    def _answer(self) -> None:
        self._called_at = None

    async def _sleep(self, seconds: float) -> None:
        """Until the stop, which comes from another thread."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if self._stopping.is_set() else seconds):
                await self._woken.wait()


def _nobody() -> None:
    """Its thread has not come that far yet: it will see that it is to stop."""
