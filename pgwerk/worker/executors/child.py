"""What a handler's own process does: one job after the other, from a channel to its worker."""

from __future__ import annotations

import asyncio
import pickle
import select
import signal
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pgwerk.batch import LINGER
from pgwerk.errors import JobTimeout, WerkError, headline
from pgwerk.execution import described
from pgwerk.logs import enter_job
from pgwerk.signals import run_through
from pgwerk.worker.executors.limits import in_time
from pgwerk.worker.executors.work import Work, call_of, stored

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Sequence

    from pgwerk.app import Werk

T = TypeVar("T")

HEAD = struct.Struct("!BQ")  # what follows, and its length in bytes
WORK, TOUCH, NOTHING, RESULT, RAISED = range(5)


@dataclass(frozen=True, slots=True)
class Identity:
    """What can be known here of the worker."""

    id: int | None
    name: str | None
    queues: Sequence[str]


class RemoteError(WerkError):
    """Stands for an exception that could not leave the process it was raised in."""


class Channel:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()  # a handler may give signs of life from any of its threads

    def hears(self, seconds: float) -> bool:
        """Within so many."""
        ready, _, _ = select.select([self._channel], [], [], seconds)
        return bool(ready)

    async def heard(self) -> None:
        """As soon as there is something to receive."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._channel, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._channel)

    def receive(self) -> bytes | None:
        """None: nobody will send any more."""
        head = self._read(HEAD.size)
        return self._read(HEAD.unpack(head)[1]) if head else None

    def send(self, what: int, body: bytes = b"") -> None:
        with self._sending:
            self._channel.sendall(HEAD.pack(what, len(body)) + body)

    def _read(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            part = self._channel.recv(min(size - len(parts), 1 << 20))
            if not part:
                return None
            parts += part
        return bytes(parts)


class Server:
    def __init__(self, channel: socket.socket, app: Werk) -> None:
        self._channel = Channel(channel)
        self._app = app.detached()
        self._is_told_to_end = False

    def run(self) -> None:
        with asyncio.Runner() as self._runner:
            while not self._is_told_to_end and (message := self._next()) is not None:
                self._answer(*pickle.loads(message))  # noqa: S301 - from the worker that this process is a part of

    def _next(self) -> bytes | None:
        """Until one comes that is not near, the loop goes on: connections that handlers have left on it close there."""
        if not self._channel.hears(LINGER):
            self._run(self._channel.heard())
        return self._channel.receive()

    def _answer(self, work: Work, identity: Identity) -> None:
        try:
            result = self._perform(work, identity)
        except BaseException as error:  # noqa: BLE001 - it is the attempt's error, whatever it is
            self._channel.send(RAISED, _report(error))
        else:
            self._channel.send(*((NOTHING,) if result is None else (RESULT, result)))

    def _perform(self, work: Work, identity: Identity) -> bytes | None:
        enter_job(work.row.job_id, str(work.row.function), work.row.attempt)
        _, call = call_of(work, self._app, identity, self._touch)
        began = time.monotonic()
        result = call()
        if asyncio.iscoroutine(result):
            result = self._run(self._cancellable(result, work.row.timeout_secs, began))
        return stored(result, work, self._app.serializer)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        loop = self._runner.get_loop()
        return run_through(loop, loop.create_task(coroutine))

    def _touch(self) -> None:
        self._channel.send(TOUCH)

    async def _cancellable(self, coroutine: Any, timeout: float | None, began: float) -> Any:
        """SIGTERM cancels a coroutine, so that it can clean up; other code it ends at once."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the runner made it
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, task.cancel)
        try:
            return await in_time(coroutine, timeout, began)
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    def _end(self, cancel: Callable[[], bool]) -> None:
        self._is_told_to_end = True
        cancel()


def _report(error: BaseException) -> bytes:
    """Its words, and apart from them itself if it can travel: some can be written and not be read."""
    words = described(error)
    try:
        return pickle.dumps((words, pickle.dumps(error)))
    except BaseException:  # noqa: BLE001 - whatever its class does when it is pickled
        return pickle.dumps((words, b""))


def raised(report: bytes) -> tuple[str, BaseException]:
    """In the worker: a timeout is one of its own words."""
    words, pickled = pickle.loads(report)  # noqa: S301 - from a process that is a part of this one
    try:
        error = pickle.loads(pickled)  # noqa: S301 - the same
    except BaseException:  # noqa: BLE001 - it could not travel, or its class does what it likes here
        error = None
    if isinstance(error, JobTimeout):
        raise error
    return words, error if isinstance(error, BaseException) else RemoteError(headline(words))
