"""Runs handlers in processes: in a pool that is kept, or each in one of its own."""

from __future__ import annotations

import asyncio
import pickle
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from pgwerk.errors import ProcessDied
from pgwerk.execution import Reported
from pgwerk.worker.executors.child import HEAD, RAISED, RESULT, TOUCH, WORK, Identity, Server, raised
from pgwerk.worker.executors.limits import LEEWAY, late
from pgwerk.worker.executors.nursery import Nursery
from pgwerk.worker.wear import mebibytes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from pgwerk.app import Werk
    from pgwerk.config import WerkConfig
    from pgwerk.context import WorkerIdentity
    from pgwerk.worker.executors.nursery import Child
    from pgwerk.worker.executors.work import Work

LARGEST_READ = 1 << 20  # bytes


class _Line:
    """A child, and the way to talk with it."""

    def __init__(self, child: Child, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.child, self._reader, self._writer = child, reader, writer
        self._head: tuple[int, int] | None = None
        """Of an answer whose body has not come yet."""

    @classmethod
    async def to(cls, child: Child) -> _Line:
        return cls(child, *await asyncio.open_connection(sock=child.channel, limit=LARGEST_READ))

    async def ask(self, message: bytes, touch: Callable[[], None]) -> tuple[int, bytes]:
        self._writer.write(HEAD.pack(WORK, len(message)) + message)
        await self._writer.drain()
        return await self.answer(touch)

    async def answer(self, touch: Callable[[], None]) -> tuple[int, bytes]:
        """Whoever was cancelled while waiting for it can wait for it again."""
        while True:
            if self._head is None:
                self._head = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            what, size = self._head
            body = await self._reader.readexactly(size) if size else b""
            self._head = None
            if what != TOUCH:
                return what, body
            touch()

    def close(self) -> None:
        """A child that waits for work ends with it."""
        self._writer.close()


class _Processes:
    is_kept: bool

    def __init__(self, app: Werk, worker: WorkerIdentity, config: WerkConfig) -> None:
        self._worker, self._grace, self._max_memory = worker, config.sigterm_grace, config.max_memory
        self._idle: list[_Line] = []
        self._lines: set[_Line] = set()

        def serve(channel: socket.socket) -> None:
            Server(channel, app).run()

        self._nursery = Nursery(serve)

    async def run(self, work: Work, touch: Callable[[], None], _on_stuck: Callable[[Any], None]) -> bytes | None:
        identity = Identity(self._worker.id, self._worker.name, list(self._worker.queues))
        message = pickle.dumps((work, identity), protocol=5)
        line = self._living() or await self._connect()
        is_well = False
        try:
            what, body = await self._ask(line, message, touch, work.row.timeout_secs)
            is_well = self.is_kept and not self._is_worn(line.child)
        finally:
            self._put_back(line, is_well=is_well)
        if what == RAISED:
            raise Reported(*raised(body))
        return body if what == RESULT else None

    def close(self) -> None:
        for line in self._lines:
            line.close()
        self._nursery.close()

    def _living(self) -> _Line | None:
        while self._idle:
            line = self._idle.pop()
            if not line.child.ended.done():
                return line
            self._put_back(line, is_well=False)
        return None

    async def _connect(self) -> _Line:
        line = await _Line.to(await self._nursery.child())
        self._lines.add(line)
        line.child.ended.add_done_callback(partial(self._hang_up, line))
        return line

    def _hang_up(self, line: _Line, _: object) -> None:
        """What it has said is heard; but a process that it left behind would hold its end of the line for ever."""
        asyncio.get_running_loop().call_later(LEEWAY, line.close)

    def _is_worn(self, child: Child) -> bool:
        """Its handlers leak: it is given no other job."""
        return self._max_memory is not None and mebibytes(child.pid) >= self._max_memory

    def _put_back(self, line: _Line, *, is_well: bool) -> None:
        if is_well:
            self._idle.append(line)
        else:
            self._lines.discard(line)
            line.close()

    async def _ask(
        self, line: _Line, message: bytes, touch: Callable[[], None], timeout: float | None
    ) -> tuple[int, bytes]:
        """A child that does not answer in time is ended, and one that is no longer wanted; what that one gives all the
        same is taken.
        """
        try:
            async with asyncio.timeout(None if timeout is None else timeout + LEEWAY) as limit:
                return await line.ask(message, touch)
        except TimeoutError as error:
            if not limit.expired():
                raise
            await line.child.end(self._grace)
            raise late(timeout) from error
        except asyncio.CancelledError as told:
            await line.child.end(self._grace)
            try:
                return await line.answer(touch)
            except (asyncio.IncompleteReadError, ConnectionError):
                raise told from None
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            try:
                await asyncio.wait([line.child.ended], timeout=LEEWAY)  # its end may be on its way
            finally:
                await line.child.end(0)
            raise ProcessDied(_obituary(line.child.ended.result())) from error


class ProcessExecutor(_Processes):
    is_kept = True


class ForkExecutor(_Processes):
    is_kept = False


def _obituary(status: int) -> str:
    if status >= 0:
        return f"the process of the attempt ended with exit status {status}"
    guess = " (out of memory?)" if status == -signal.SIGKILL else ""
    return f"the process of the attempt was ended by signal {signal.Signals(-status).name}{guess}"
