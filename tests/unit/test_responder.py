"""Answers for whatever clients do."""

from __future__ import annotations

import contextlib
import socket
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from pgwerk import InvalidOption
from pgwerk.worker import responder
from pgwerk.worker.responder import Reply, Responder
from tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a..b", "a" * 64])
def test_an_address_of_somebody_else_is_refused(host: str) -> None:
    with pytest.raises(InvalidOption, match=f"at port 8080 of {host}: "):
        Responder(host, 8080, lambda _: Reply(HTTPStatus.OK, b""))


ANSWERED = [
    (b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
    (b"GET /live\n\n", b"HTTP/1.1 200 OK\r\n"),
    (b"\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n"),
    (b"\x16\x03\x01\x02\n\n\xff", b"HTTP/1.1 404 Not Found\r\n"),
    (b"GET\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n"),
    (b"x" * responder.LONGEST_REQUEST, b""),
]


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def words(client: socket.socket) -> bytes:
    """All of it; nothing where the other side has hung up."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while more := client.recv(65536):
            found += more
    return found


@pytest.fixture
def answering(port: int) -> Iterator[Responder]:
    def answer(path: str) -> Reply:
        found = path == "/live"
        return Reply(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND, b"{}")

    with contextlib.closing(Responder("127.0.0.1", port, answer)) as found:
        yield found


def serve_until(answering: Responder, is_enough: Callable[[], object]) -> None:
    def served() -> bool:
        answering.serve()
        return bool(is_enough())

    wait_until(served, "it has served enough")


@pytest.mark.parametrize(("said", "answer"), ANSWERED)
def test_whatever_a_client_says_it_is_let_go(answering: Responder, port: int, said: bytes, answer: bytes) -> None:
    with connected(port) as client:
        client.sendall(said)
        serve_until(answering, lambda: len(answering._clients) == 1)
        serve_until(answering, lambda: not answering._clients)
        assert words(client).partition(b"\n")[0] == answer.rstrip(b"\n")


def test_a_client_that_drops_its_words_one_by_one_is_heard(answering: Responder, port: int) -> None:
    with connected(port) as client:
        for letter in b"GET /live HTTP/1.0\r\n\r\n":
            client.sendall(bytes([letter]))
            answering.serve()
        serve_until(answering, lambda: not answering._clients)
        assert words(client).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_says_nothing_is_parted_with(answering: Responder, port: int) -> None:
    with connected(port) as client:
        serve_until(answering, lambda: answering._clients)
        assert answering.due_in is not None and 0 < answering.due_in <= responder.PATIENCE
        answering._clients[0].until = time.monotonic()
        answering.serve()
        assert words(client) == b""
        assert answering.due_in is None


def test_clients_beyond_the_most_take_the_place_of_the_oldest(answering: Responder, port: int) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(port)) for _ in range(responder.CLIENTS)]
        serve_until(answering, lambda: len(answering._clients) == responder.CLIENTS)
        late = stack.enter_context(connected(port))
        late.sendall(b"GET /live HTTP/1.1\r\n\r\n")
        serve_until(answering, lambda: len(answering._clients) == responder.CLIENTS - 1)
        assert words(late).startswith(b"HTTP/1.1 200 OK\r\n")
        assert words(silent[0]) == b""


def test_without_a_file_descriptor_it_rests(answering: Responder, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that stays readable would be a loop that never rests."""

    class Exhausted:
        def accept(self) -> None:
            raise OSError(24, "Too many open files")

        def fileno(self) -> int:
            return listener.fileno()

        def close(self) -> None:
            listener.close()

    listener = answering._listener
    with connected(port) as client:
        client.sendall(b"GET /live HTTP/1.1\r\n\r\n")
        monkeypatch.setattr(answering, "_listener", Exhausted())
        serve_until(answering, lambda: answering.due_in is not None)
        assert not answering._selector.select(0)
        monkeypatch.setattr(answering, "_listener", listener)
        serve_until(answering, lambda: answering.due_in is None)
        serve_until(answering, lambda: answering._clients)
        serve_until(answering, lambda: not answering._clients)
        assert words(client).startswith(b"HTTP/1.1 200 OK\r\n")
