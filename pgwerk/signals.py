"""What stops a worker or a scheduler, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
T = TypeVar("T")

STOPPING = (signal.SIGTERM, signal.SIGINT)

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
def stop_signals(stop: Callable[[str], None]) -> Iterator[None]:
    """While inside, the signals call `stop` with their names; afterwards they do what they did before. A thread that
    is not the main one gets no signals, and has none to handle.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        loop.add_signal_handler(number, stop, number.name)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
