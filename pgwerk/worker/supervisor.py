"""Several worker processes under one parent: started together, stopped together, replaced when they die.

The parent has no event loop and no thread, so that it may fork at any time. Its children are in process
groups of their own: a Ctrl-C reaches the parent alone, which passes it on. Each child reads from a pipe that
only the parent could write to; when the parent dies, however it dies, the pipe ends, and so do they.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import mmap
import os
import select
import signal
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Self

import psycopg

from pgwerk import events
from pgwerk.errors import InvalidOption, ServerUnreachable, WerkError, brief, one_line, said_no
from pgwerk.signals import STOPPING
from pgwerk.worker.health import Board
from pgwerk.worker.streams import flush_streams

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pgwerk.worker.health import Health, State, Tell
    from pgwerk.worker.responder import Responder

FIRST_PAUSE, LAST_PAUSE = 0.5, 30.0  # seconds before a dead child is replaced; doubled from one to the other
WORN = 75  # the exit status (EX_TEMPFAIL) of a child that has done its part: another one takes its place at once
PARTING = 10.0  # seconds beyond a child's patience, after which it is no longer waited for by itself
LONGEST_WORDS = 4096  # bytes of what a child could not begin for
PASSING = (ServerUnreachable, psycopg.OperationalError, psycopg.InternalError)  # it is away, busy, or a standby for now

logger = logging.getLogger("pgwerk")


@dataclass(slots=True)
class _Place:
    """Of one child, and of those that replace it."""

    pid: int | None = None
    due: float | None = 0.0
    """When the next child starts; None: never."""

    failures: int = 0
    status: int = 0
    """Of the last child that ended: its exit status, or minus the signal that ended it."""


class Supervisor:
    """`work` is what a child does. It `may_end` by itself (a burst), or only when it was told to. With `health`, probes
    are answered for all children, by what `work` tells. The end of the pipe `lifeline` is a SIGTERM.
    """

    def __init__(
        self, work: Callable[[Tell | None], None], processes: int, *, patience: float, may_end: bool = False,
        health: Health | None = None, lifeline: int | None = None,
    ) -> None:  # fmt: skip
        if processes < 1:
            raise InvalidOption(f"processes must be at least 1, got {brief(processes)}")
        self._work, self._patience, self._may_end = work, patience, may_end
        self._places = [_Place() for _ in range(processes)]
        self._at_work = mmap.mmap(-1, processes)  # a byte for each child, shared with it: it has begun to take jobs
        self._last_words = [mmap.mmap(-1, LONGEST_WORDS) for _ in range(processes)]  # of a child, for its parent to say
        self._hindrance: str | None = None
        self._health, self._board = health, Board(processes)
        self._above = lifeline
        self._is_stopping = False

    def run(self) -> int:
        """The exit status: 0 if the last child of each place ended well. Raises what no child could begin for.

        What was imported is shared with the children, as long as nobody writes to it: the collector would.
        """
        gc.collect()
        gc.freeze()
        self._lifeline, self._end = os.pipe()
        try:
            with self._answering() as self._responder, _Signals() as self._signals:
                while not self._is_over():
                    self._start_due()
                    self._hear(self._wait())
                    self._reap()
        finally:
            os.close(self._lifeline)
            os.close(self._end)
        if self._hindrance is not None:
            raise WerkError(self._hindrance)
        return int(any(place.status for place in self._places))

    def _is_over(self) -> bool:
        return all(place.pid is None and (self._is_stopping or place.due is None) for place in self._places)

    def _answering(self) -> AbstractContextManager[Responder | None]:
        return contextlib.nullcontext() if self._health is None else closing(self._health.responder(self._states))

    def _states(self) -> list[State | None]:
        states = [self._board.get(number) for number in range(len(self._places))]
        return [state and state._replace(is_stopping=state.is_stopping or self._is_stopping) for state in states]

    def _wait(self) -> bytes:
        """For signals; probes are answered in passing."""
        responder, above = self._responder, self._above
        pauses = [self._pause(), responder.due_in if responder else None]
        seconds = min((pause for pause in pauses if pause is not None), default=None)
        sources = [self._signals, responder, above]
        ready, _, _ = select.select([source for source in sources if source is not None], [], [], seconds)
        if responder:
            responder.serve()
        if above is not None and above in ready:
            self._above = None
            logger.error("the parent of process %d is gone; it stops", os.getpid())
            return bytes([signal.SIGTERM])
        return self._signals.read() if self._signals in ready else b""

    def _pause(self) -> float | None:
        """Seconds until a child is due; None: until something happens."""
        if self._is_stopping:
            return None
        due = [place.due for place in self._places if place.pid is None and place.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _start_due(self) -> None:
        for number, place in enumerate(self._places):
            if place.pid is None and place.due is not None and place.due <= time.monotonic() and not self._is_stopping:
                place.pid = self._fork(number)

    def _hear(self, signals: bytes) -> None:
        for number in signals:
            if number in STOPPING:
                self._is_stopping = True
                for place in self._places:
                    if place.pid is not None:
                        os.kill(place.pid, number)

    def _reap(self) -> None:
        for number, place in enumerate(self._places):
            if place.pid is None:
                continue
            ended, status = os.waitpid(place.pid, os.WNOHANG)
            if not ended:
                continue
            self._board.put(number, None)
            if words := self._last_words[number][:].rstrip(b"\0"):
                self._give_up(place, words.decode(errors="ignore"))
            else:
                self._bury(place, os.waitstatus_to_exitcode(status), was_at_work=bool(self._at_work[number]))

    def _give_up(self, place: _Place, hindrance: str) -> None:
        """No other child would do better. Those of a burst end by themselves."""
        place.pid, place.due, self._hindrance = None, None, hindrance
        if not (self._may_end or self._is_stopping):
            self._hear(bytes([signal.SIGTERM]))

    def _bury(self, place: _Place, status: int, *, was_at_work: bool) -> None:
        """Who could not even begin will hardly do better soon (a burst does not wait for that); who was killed by a job
        leaves others waiting.
        """
        pid, place.pid, place.status = place.pid, None, 0 if status == WORN else status
        if status == WORN:
            self._renew(place, pid)
            return
        if self._may_end and (status == 0 or not was_at_work):
            place.due = None
        if self._is_stopping or place.due is None:
            if status:
                when = "while it stopped" if self._is_stopping else "before it took a job of the burst"
                logger.error("worker process %d ended with %s %s", pid, _named(status), when)
            return
        place.failures = 0 if was_at_work else place.failures
        pause = min(FIRST_PAUSE * 2**place.failures, LAST_PAUSE)
        place.due, place.failures = time.monotonic() + pause, place.failures + 1
        logger.error("worker process %d ended with %s; another one takes its place in %g s", pid, _named(status), pause)

    def _renew(self, place: _Place, pid: int | None) -> None:
        place.due, place.failures = time.monotonic(), 0
        if not self._is_stopping:
            logger.info("worker process %d has done its part; another one takes its place", pid)

    def _fork(self, number: int) -> int:
        self._at_work[number] = 0
        flush_streams()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # what is sent to the child is for its own handlers
        pid = os.fork()
        if pid == 0:
            self._be_child(number, before)
        with contextlib.suppress(OSError):  # it has done so itself, or is gone already
            os.setpgid(pid, pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _be_child(self, number: int, mask: set[signal.Signals | int]) -> NoReturn:
        status = 1
        try:
            os.setpgid(0, 0)
            os.close(self._end)
            self._signals.close()
            threading.Thread(target=_watch, args=(self._lifeline, self._patience + PARTING), daemon=True).start()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            events.subscribe(partial(self._note, number))
            self._work(partial(self._board.put, number) if self._health else None)
            status = 0
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        except (WerkError, psycopg.Error) as error:
            self._tell(number, error)
        except BaseException:
            logger.exception("worker process %d failed", os.getpid())
        finally:
            flush_streams()
            os._exit(status)

    def _tell(self, number: int, error: WerkError | psycopg.Error) -> None:
        """In a child: what the next one may be spared it says itself; the rest its parent says, once for all."""
        words = one_line(error) if isinstance(error, WerkError) else said_no(error)
        if self._at_work[number] or (isinstance(error, PASSING) and not self._may_end):
            logger.error("worker process %d: %s", os.getpid(), words)
        else:
            self._last_words[number].write(words.encode(errors="replace")[:LONGEST_WORDS])

    def _note(self, number: int, event: events.Event) -> None:
        if isinstance(event, events.WorkerStarted):
            self._at_work[number] = 1
        elif isinstance(event, events.WornUnused):
            self._at_work[number] = 0


class _Signals:
    """The signals that a parent hears, as bytes to wait for."""

    HEARD = (*STOPPING, signal.SIGCHLD)

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._before = {number: signal.signal(number, _note) for number in self.HEARD}
        self._wakeup = signal.set_wakeup_fd(self._writer)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        return self._reader

    def read(self) -> bytes:
        return os.read(self._reader, 4096)


def _note(*_: object) -> None:
    """The number is in the pipe already."""


def _watch(lifeline: int, patience: float) -> None:
    """In a child: the parent's death is a SIGTERM, and then there is nobody left to wait for."""
    os.read(lifeline, 1)
    logger.error("the parent of worker process %d is gone; it stops", os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    os._exit(1)


def _named(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
