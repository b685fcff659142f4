"""Plain HTTP for probes, without a loop of its own: what waits (an event loop, the `select` of a parent that forks)
waits for its `fileno` too, and lets it serve. Nothing here ever waits, so no client can hold anybody up.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from pgwerk.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS = 32  # at once; one more takes the place of the oldest
PATIENCE = 5.0  # seconds for a client to say what it wants
LONGEST_REQUEST = 8192  # bytes
REST = 1.0  # seconds without new clients where the process has no file descriptor for them
_CHUNK = 4096

_open: WeakSet[Responder] = WeakSet()


class Reply(NamedTuple):
    status: HTTPStatus
    body: bytes


@dataclass(slots=True, eq=False)
class _Client:
    socket: socket.socket
    until: float
    said: bytes = b""


class Responder:
    """`answer` gets the path of a GET or HEAD; of anything else the method, which is no path.

    Raises `InvalidOption` where nothing can listen.
    """

    def __init__(self, host: str, port: int, answer: Callable[[str], Reply]) -> None:
        self._answer = answer
        self._listener = _listening(host, port)
        self._clients: list[_Client] = []  # the oldest first
        self._rests_until: float | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        _open.add(self)

    def fileno(self) -> int:
        """Readable when there is something to serve."""
        return self._selector.fileno()

    @property
    def due_in(self) -> float | None:
        """Seconds until it is to serve even if nothing comes."""
        moments = [client.until for client in self._clients[:1]]
        if self._rests_until is not None:
            moments.append(self._rests_until)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def serve(self) -> None:
        for key, _ in self._selector.select(0):
            if key.data is None:
                self._accept()
            elif key.data in self._clients:
                self._hear(key.data)
        self._part()

    def close(self) -> None:
        """The selector first: in a forked child its registrations are shared with the parent, which needs them."""
        _open.discard(self)
        self._selector.close()
        self._listener.close()
        for client in self._clients:
            client.socket.close()

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # it has changed its mind
            return
        except OSError:  # no descriptor is left: the client waits, and whoever needs one more comes first
            self._rests_until = time.monotonic() + REST
            self._selector.unregister(self._listener)
            return
        accepted.setblocking(False)
        client = _Client(accepted, time.monotonic() + PATIENCE)
        self._clients.append(client)
        self._selector.register(accepted, selectors.EVENT_READ, client)
        if len(self._clients) > CLIENTS:
            self._drop(self._clients[0])

    def _hear(self, client: _Client) -> None:
        """The whole head: who closes before it has come resets the connection, and takes the answer along."""
        try:
            said = client.socket.recv(_CHUNK)
            client.said += said
            if b"\r\n\r\n" in client.said or b"\n\n" in client.said:
                client.socket.send(self._reply(client.said))  # far less than what a new socket takes at once
            elif said and len(client.said) < LONGEST_REQUEST:
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # it is gone, and waits for nothing
        self._drop(client)

    def _reply(self, request: bytes) -> bytes:
        method, path, *_ = [*request.partition(b"\n")[0].decode("latin-1").split(), "", ""]
        status, body = self._answer(path.partition("?")[0] if method in ("GET", "HEAD") else method)
        head = (
            f"HTTP/1.1 {status:d} {status.phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)

    def _part(self) -> None:
        """With whoever had time enough; and a rest ends."""
        now = time.monotonic()
        while self._clients and self._clients[0].until <= now:
            self._drop(self._clients[0])
        if self._rests_until is not None and self._rests_until <= now:
            self._rests_until = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _drop(self, client: _Client) -> None:
        self._clients.remove(client)
        self._selector.unregister(client.socket)
        client.socket.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=CLIENTS)
    except (OSError, ValueError) as error:  # the latter: a text that can be no name
        said = getattr(error, "strerror", "no host is named so")
        reason = str(said).partition(" (while ")[0]  # Python says the address again
        raise InvalidOption(
            f"no probe can be answered at port {port} of {host}: {reason}; give another health_port or health_host"
        ) from error
    listener.setblocking(False)
    return listener


def _let_go() -> None:
    """A forked process answers nobody, and must not keep the port from its parent's successor."""
    for responder in [*_open]:
        responder.close()


os.register_at_fork(after_in_child=_let_go)
