"""What a worker answers to probes: GET /live and GET /ready. One that runs in several processes answers for all."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import struct
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Self

import orjson

from pgwerk.errors import brief
from pgwerk.worker.responder import Reply, Responder
from pgwerk.worker.services.beat import BEATS_OF_PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from pgwerk.worker.worker import Worker

    Tell = Callable[["State | None"], None]

TELLING = 0.5  # seconds between two times that a child tells its parent how it is, or a beat where that is less

_STATE = struct.Struct("dqq?d")


class State(NamedTuple):
    """Of one worker, in its own words. Moments are of the monotonic clock, which all processes of a machine share."""

    said_at: float
    worker_id: int
    running: int
    is_stopping: bool
    heard_at: float
    """When all was well between it and the database."""


class Board:
    """The states of several processes, in memory that they share. One that is read while it is written may be mixed of
    two that were told one after the other; each of its words is true all the same.
    """

    def __init__(self, places: int) -> None:
        self._memory = mmap.mmap(-1, places * _STATE.size)

    def put(self, place: int, state: State | None) -> None:
        _STATE.pack_into(self._memory, place * _STATE.size, *(state or State(0.0, 0, 0, False, 0.0)))

    def get(self, place: int) -> State | None:
        state = State(*_STATE.unpack_from(self._memory, place * _STATE.size))
        return state if state.said_at else None


@dataclass(frozen=True, slots=True)
class Health:
    """`patience`: seconds after which others would take a silent worker for dead."""

    host: str
    port: int
    queues: Sequence[str]
    patience: float

    @classmethod
    def of(cls, worker: Worker) -> Self | None:
        """None: nobody is to be answered."""
        config = worker.config
        if config.health_port is None:
            return None
        patience = config.heartbeat_interval * BEATS_OF_PATIENCE
        return cls(config.health_host, config.health_port, worker.queues, patience)

    def responder(self, states: Callable[[], Sequence[State | None]]) -> Responder:
        """None among the states is a worker that has not begun."""
        return Responder(self.host, self.port, lambda path: self.answer(path, states(), time.monotonic()))

    def answer(self, path: str, states: Sequence[State | None], now: float) -> Reply:
        hindrances = {"/live": self._of_life, "/ready": self._of_work}
        if (hindrance := hindrances.get(path)) is None:
            return _reply(
                HTTPStatus.NOT_FOUND, ok=False, why=f"there are {' and '.join(hindrances)}, got {brief(path)}"
            )
        why = next(filter(None, (hindrance(state, now) for state in states)), None)
        workers = [
            {"id": state.worker_id, "running": state.running, "silent_for": round(now - state.heard_at, 3)}
            for state in states
            if state is not None
        ]
        status = HTTPStatus.OK if why is None else HTTPStatus.SERVICE_UNAVAILABLE
        return _reply(status, ok=why is None, why=why, queues=list(self.queues), workers=workers)

    def _of_life(self, state: State | None, now: float) -> str | None:
        if state is not None and (silent := now - state.said_at) > self.patience:
            return f"worker {state.worker_id} has been blocked for {silent:.1f} s"
        return None

    def _of_work(self, state: State | None, now: float) -> str | None:
        if state is None:
            return "a worker has not begun, or has ended"
        if state.is_stopping:
            return f"worker {state.worker_id} is shutting down"
        if (silent := now - state.heard_at) > self.patience:
            return f"worker {state.worker_id} has not heard from the database for {silent:.1f} s"
        return self._of_life(state, now)


@contextlib.asynccontextmanager
async def answering(worker: Worker, tell: Tell | None) -> AsyncIterator[None]:
    """By itself, or by what it tells its parent."""
    with contextlib.ExitStack() as stack:
        if tell is not None:
            duty = _telling(worker, tell)
        elif (health := Health.of(worker)) is not None:
            duty = _serving(stack.enter_context(contextlib.closing(health.responder(lambda: [worker.state()]))))
        else:
            yield
            return
        task = asyncio.create_task(duty)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _telling(worker: Worker, tell: Tell) -> None:
    interval = min(TELLING, worker.config.heartbeat_interval)
    while True:
        tell(worker.state())
        await asyncio.sleep(interval)


async def _serving(responder: Responder) -> None:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(responder, woken.set)
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(responder.due_in):
                    await woken.wait()
            woken.clear()
            responder.serve()
    finally:
        loop.remove_reader(responder)


def _reply(status: HTTPStatus, **body: object) -> Reply:
    return Reply(status, orjson.dumps(body) + b"\n")
