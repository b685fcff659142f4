"""A wire that tests can make slow, deaf or broken: it stands between a client and a Postgres, over loopback TCP or a
unix socket, needs no rights and counts the round trips that pass through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER that turns a close into a reset


class _Packet(NamedTuple):
    data: bytes
    arrives: float


class Proxy:
    """`async with Proxy(dsn) as proxy:`, then connect to `proxy.dsn`. With a `folder`: by a unix socket there."""

    def __init__(self, dsn: str, folder: Path | None = None) -> None:
        self._target, self._folder = dsn, folder
        self._port = 5432 if folder else 0
        self._wires: set[_Wire] = set()
        self._arrivals: set[asyncio.Task[None] | None] = set()
        self._cuts = 0
        self.open = asyncio.Event()
        self.open.set()
        self.delay = 0.0
        """Seconds that everything is under way, each way."""

        self.on_answer: Callable[[bytes], bytes] = bytes
        """What the server says, and what the client is to hear instead; an OSError cuts the wire before it hears any of
        it.
        """

        self.round_trips = 0
        """How often the server has answered what a client had said, all connections together."""

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        self.cut()
        await asyncio.gather(*filter(None, self._arrivals))

    @property
    def dsn(self) -> str:
        return make_conninfo(self._target, host=str(self._folder or "127.0.0.1"), port=self._port)

    async def accept(self) -> None:
        """New connections, at the same address as before."""
        if self._folder:
            path = self._folder / f".s.PGSQL.{self._port}"
            self._server: asyncio.AbstractServer = await asyncio.start_unix_server(self._connected, path)
            return
        server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._server, self._port = server, server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """No new connections; those that are there live on. One that was just accepted must reach the server before it
        closes, else nobody would ever close that one.
        """
        if isinstance(self._server, asyncio.Server):
            for listener in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listener.fileno())
        await asyncio.sleep(0)
        self._server.close()
        await asyncio.sleep(0)

    def black_hole(self) -> None:
        """Sockets stay open and swallow: nothing arrives any more, either way."""
        self.open.clear()

    def heal(self) -> None:
        """What was held back arrives after all."""
        self.open.set()

    def sever(self) -> None:
        """What is open stays open on both sides, and nothing passes any more, not even an end: half-open connections
        until they are cut. New ones work.
        """
        for wire in self._wires:
            wire.is_severed = True

    def cut(self) -> None:
        """Every connection is reset, on both sides."""
        self._cuts += 1
        for wire in self._wires:
            wire.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._arrivals.add(task := asyncio.current_task())
        cuts = self._cuts
        try:
            wire = _Wire(self, (reader, writer), await self._to_server())
        except OSError:
            writer.transport.abort()
        else:
            await self._run(wire, is_cut=self._cuts > cuts)
        finally:
            self._arrivals.discard(task)

    async def _run(self, wire: _Wire, *, is_cut: bool) -> None:
        self._wires.add(wire)
        try:
            if is_cut:
                wire.cut()
            await wire.run()
        finally:
            self._wires.discard(wire)

    async def _to_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = conninfo_to_dict(self._target)
        host, port = str(where.get("host") or "127.0.0.1"), int(where.get("port") or 5432)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)


class _Wire:
    """One connection through the proxy: each direction keeps its order and its delay."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._asked = False
        self._is_cut = asyncio.Event()
        self.is_severed = False

    async def run(self) -> None:
        said: asyncio.Queue[_Packet] = asyncio.Queue()
        answered: asyncio.Queue[_Packet] = asyncio.Queue()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(self._client[0], said, self._note_question))
                tasks.create_task(self._read(self._server[0], answered, self._note_answer))
                tasks.create_task(self._write(said, self._server[1]))
                tasks.create_task(self._write(answered, self._client[1]))
                tasks.create_task(self._end_when_cut())
        except* OSError:
            pass  # a broken wire is what tests ask for
        finally:
            self.cut()

    def cut(self) -> None:
        self._is_cut.set()
        for _, writer in (self._client, self._server):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _read(
        self, reader: asyncio.StreamReader, queue: asyncio.Queue[_Packet], note: Callable[[bytes], bytes]
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(_CHUNK):
            queue.put_nowait(_Packet(note(data), loop.time() + self._proxy.delay))
        queue.put_nowait(_Packet(b"", loop.time() + self._proxy.delay))

    async def _write(self, queue: asyncio.Queue[_Packet], writer: asyncio.StreamWriter) -> None:
        """One that has ended ends both: Postgres knows no half-closed connections."""
        loop = asyncio.get_running_loop()
        while (packet := await queue.get()).data:
            await asyncio.sleep(max(0.0, packet.arrives - loop.time()))
            await self._may_pass()
            writer.write(packet.data)
            await writer.drain()
        await self._may_pass()
        raise ConnectionError("one side has hung up")

    async def _may_pass(self) -> None:
        await self._proxy.open.wait()
        if self.is_severed:
            await self._is_cut.wait()

    async def _end_when_cut(self) -> None:
        await self._is_cut.wait()
        raise ConnectionError("the wire is cut")

    def _note_question(self, data: bytes) -> bytes:
        self._asked = True
        return data

    def _note_answer(self, data: bytes) -> bytes:
        if self._asked:
            self._asked = False
            self._proxy.round_trips += 1
        return self._proxy.on_answer(data)
