"""The jobs that the benchmarks run, and the app of their worker processes."""

import socket
import time

from pgwerk import Context, Werk

app = Werk()  # of PGWERK_DSN

_sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


async def noop() -> None:
    """What is measured is the queue's own work."""


def add_up(number: int) -> int:
    """As little as a process can be asked to do."""
    return sum(range(number))


async def told(_: Context) -> None:
    """A callback."""


async def stamp(port: int) -> None:
    tell_time(port, time.monotonic())


def tell_time(port: int, seconds: float) -> None:
    """One machine has one monotonic clock: what one process reads, another may subtract."""
    _sender.sendto(repr(seconds).encode(), ("127.0.0.1", port))
