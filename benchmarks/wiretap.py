"""A proxy that counts, by name, the statements that pass from its clients to a Postgres.

It reads the messages of the protocol, so it counts on any server, and sees which statement it is. Encryption would
hide that: it is refused to the client, and not asked of the server.
"""

import asyncio
import threading
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from harness import SCHEMA, uri
from psycopg.conninfo import conninfo_to_dict

from pgwerk.sql import statements

NAMES = {known.text.encode(): known.name for known in statements(SCHEMA).values()}
ENCRYPTION = {(80877103).to_bytes(4), (80877104).to_bytes(4)}  # what asks for TLS, and for GSSAPI
GONE = (ConnectionError, IncompleteReadError)


class Message(NamedTuple):
    kind: bytes
    body: bytes
    raw: bytes


class Wiretap:
    def __init__(self, dsn: str) -> None:
        self.counts: Counter[str] = Counter()
        self.connections = 0
        self._server_dsn = dsn
        self._servings: set[asyncio.Task[None] | None] = set()

    async def listen(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1")
        given = conninfo_to_dict(self._server_dsn)
        here = {"host": "127.0.0.1", "port": self._listening.sockets[0].getsockname()[1]}
        self.dsn = uri(str(given.pop("dbname", "")), given | here)

    async def close(self) -> None:
        self._listening.close()
        servings = list(filter(None, self._servings))
        for serving in servings:
            serving.cancel()
        await asyncio.gather(*servings, return_exceptions=True)

    async def _serve(self, client: StreamReader, to_client: StreamWriter) -> None:
        self.connections += 1
        self._servings.add(serving := asyncio.current_task())
        try:
            server, to_server = await self._connect()
            await asyncio.gather(self._count(messages(client, to_client), to_server), pass_on(server, to_client))
        finally:
            self._servings.discard(serving)

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        given = conninfo_to_dict(self._server_dsn)
        host, port = str(given.get("host") or "127.0.0.1"), int(given.get("port") or 5432)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _count(self, told: AsyncIterator[Message], server: StreamWriter) -> None:
        """Parse gives a statement its text, Bind chooses one of them, Execute runs it; Query does all at once."""
        texts: dict[bytes, bytes] = {}
        chosen = b""
        async for kind, body, raw in told:
            match kind:
                case b"P":
                    name, text, _ = body.split(b"\0", 2)
                    texts[name] = text
                case b"B":
                    chosen = texts[body.split(b"\0", 2)[1]]
                case b"E" | b"Q":
                    text = chosen if kind == b"E" else body.rstrip(b"\0")
                    self.counts[NAMES.get(text, text.decode()[:40])] += 1
            server.write(raw)
        server.close()


async def messages(client: StreamReader, to_client: StreamWriter) -> AsyncIterator[Message]:
    """A type, a length that counts itself, a body; the first message has no type."""
    kind = b""
    with suppress(*GONE):
        while True:
            length = await client.readexactly(4)
            body = await client.readexactly(int.from_bytes(length) - 4)
            if not kind and body in ENCRYPTION:
                to_client.write(b"N")
                continue
            yield Message(kind, body, kind + length + body)
            kind = await client.readexactly(1)


async def pass_on(server: StreamReader, client: StreamWriter) -> None:
    with suppress(*GONE):
        while data := await server.read(65536):
            client.write(data)
    client.close()


@contextmanager
def wiretap(dsn: str) -> Iterator[Wiretap]:
    """In a thread of its own, so that it goes on while this one waits for processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    tap = Wiretap(dsn)
    asyncio.run_coroutine_threadsafe(tap.listen(), loop).result()
    try:
        yield tap
    finally:
        asyncio.run_coroutine_threadsafe(tap.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
