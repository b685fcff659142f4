"""A worker as a whole process: signals outside the worker's own time, and an end that nothing holds up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from pgwerk.signals import STOPPING, Leaving, run_through
from pgwerk.worker.streams import flush_streams
from pgwerk.worker.supervisor import WORN

if TYPE_CHECKING:
    from types import FrameType

    from pgwerk.worker.health import Tell
    from pgwerk.worker.worker import Worker

PARTING = 2.0  # seconds for what a program does at its end

logger = logging.getLogger("pgwerk")


def leave_on_signals() -> None:
    """As long as there is no worker to stop, to stop is to leave."""
    for number in STOPPING:
        signal.signal(number, _leave)


def ignore_signals() -> None:
    """Whoever is leaving need not be told again."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def run_to_end(worker: Worker, tell: Tell | None = None) -> None:
    """Until the worker has stopped; then the process ends within `PARTING` seconds, whatever its threads do.

    Python itself would wait for a handler's thread that never returns.
    """
    status, worker.tell = 1, tell
    with asyncio.Runner() as runner:
        try:
            run_through(runner.get_loop(), runner.get_loop().create_task(worker.run()))
            status = _status(worker)
        except Leaving:
            status = 0
            raise
        finally:
            ignore_signals()
            threading.Thread(target=_part, args=(status,), daemon=True).start()
    if status:
        raise SystemExit(status)


def _status(worker: Worker) -> int:
    """Who was worn before it ran any job has failed."""
    if not worker.is_worn:
        return 0
    return WORN if worker.wear.has_worked else 1


def _leave(_signal: int, frame: FrameType | None) -> None:
    """In the middle of whatever goes on. But a loop that is about to take a step would lose it, and wait for its task
    for ever: it is told when it comes round.
    """
    home = "" if frame is None else str(frame.f_globals.get("__name__"))
    if home.partition(".")[0] in ("asyncio", "selectors"):
        with contextlib.suppress(RuntimeError):  # no loop runs: this is an import, or the loop's own end
            asyncio.get_running_loop().call_soon_threadsafe(_raise)
            return
    _raise()


def _raise() -> NoReturn:
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of a statement that is left in the middle
    raise Leaving(0)


def _part(status: int) -> None:
    time.sleep(PARTING)
    logger.warning("this process ends without waiting for threads that have not returned")
    flush_streams()
    os._exit(status)
