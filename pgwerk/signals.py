"""What stops a worker or a scheduler, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
T = TypeVar("T")

STOPPING = (signal.SIGTERM, signal.SIGINT)
DEAF = 1.0  # seconds after which an event loop that has not heard of a signal counts as held up

logger = logging.getLogger("pgwerk")


class Leaving(SystemExit):
    """By a signal, before there was a worker to hear it."""


def run_through(loop: asyncio.AbstractEventLoop, main: asyncio.Task[T]) -> T:
    """`sys.exit` in a task that a handler has started ends the loop's run: that task has failed, the loop goes on."""
    while True:
        try:
            return loop.run_until_complete(main)
        except Leaving:
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            if main.done():
                raise
            logger.warning("%r in a task that a handler has started; the others go on", error)


@contextlib.contextmanager
def stop_signals(stop: Callable[[str], None], break_in: Callable[[], None] | None = None) -> Iterator[None]:
    """While inside, the signals call `stop` with their names; afterwards they do what they did before. A thread that
    is not the main one gets no signals, and has none to handle.

    Where something holds up the loop, which alone can call `stop`, signals after the first call `break_in` in the
    middle of that: it may raise there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, ear = asyncio.get_running_loop(), _Ear(stop, break_in)
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        loop.add_signal_handler(number, ear.hear, number.name)
        signal.signal(number, ear.note)  # in place of one that does nothing: the loop is woken by a descriptor
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


class _Ear:
    def __init__(self, stop: Callable[[str], None], break_in: Callable[[], None] | None) -> None:
        self._stop, self._break_in = stop, break_in
        self._unheard_since: float | None = None

    def note(self, *_: object) -> None:
        """At once, in the middle of whatever the main thread does."""
        now = time.monotonic()
        if self._unheard_since is None:
            self._unheard_since = now
        elif self._break_in is not None and now - self._unheard_since >= DEAF:
            self._break_in()

    def hear(self, name: str) -> None:
        """When the loop comes round."""
        self._unheard_since = None
        self._stop(name)
