"""Where the processes of handlers come from.

A worker has threads and an event loop, and must not fork when it likes. So it forks once, before it has them: the
nursery is a copy of it with one thread, which forks on demand, tells how its children end, and passes signals on (it
alone reaps them, so that a signal never hits a number that belongs to somebody else by now). Everything that the worker
has imported is there, shared, also what a script defines. When the worker dies, however it dies, the socket between
them ends, and with it the nursery and its children.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, NoReturn

from pgwerk.signals import STOPPING
from pgwerk.worker.streams import flush_streams

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[[socket.socket], None]

_REQUEST = struct.Struct("!Bii")  # what, of which process, which signal
_ANSWER = struct.Struct("!Bii")  # what, of which process, its wait status
FORK, KILL = 0, 1
BORN, ENDED = 0, 1
PARTING = 1.0  # seconds for a nursery to end its children and itself


class Child:
    """A process, its end of the channel, and its end."""

    def __init__(self, nursery: Nursery, channel: socket.socket) -> None:
        self._nursery = nursery
        self.channel = channel
        self.pid = 0
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit status, or minus the signal that ended it."""

    def kill(self, number: signal.Signals) -> None:
        if not self.ended.done():
            self._nursery.say(KILL, self.pid, number)

    async def end(self, grace: float) -> None:
        """SIGTERM, and after so many seconds SIGKILL, whatever becomes of the caller; returns when it is gone. A caller
        that is cancelled meanwhile hears of it then.
        """
        self.kill(signal.SIGTERM)
        asyncio.get_running_loop().call_later(grace, self.kill, signal.SIGKILL)
        try:
            await asyncio.wait([self.ended])
        finally:
            await asyncio.wait([self.ended])


class Nursery:
    """The worker's side. `serve` is what a child does with its end of the channel."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._loop = asyncio.get_running_loop()
        self._expected: deque[tuple[Child, asyncio.Future[None]]] = deque()
        self._children: dict[int, Child] = {}
        self._heard = b""
        self._control: socket.socket | None = None
        self._start()

    async def child(self) -> Child:
        if self._control is None:
            self._start()
        ours, theirs = socket.socketpair()
        child, born = Child(self, ours), self._loop.create_future()
        self._expected.append((child, born))
        with theirs:
            self.say(FORK, 0, 0, theirs)
        try:
            await born
        except asyncio.CancelledError:
            ours.close()  # nobody wants it any more: it hears that as soon as it is born, and ends
            raise
        return child

    def say(self, what: int, pid: int, number: int, *channel: socket.socket) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):  # a nursery that is gone is noticed by its silence
                socket.send_fds(self._control, [_REQUEST.pack(what, pid, number)], [each.fileno() for each in channel])

    def close(self) -> None:
        """Ends all of them, at once."""
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None
            _bury(self._pid)
        self._orphan()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        flush_streams()
        self._pid = os.fork()
        if self._pid == 0:
            self._control.close()
            _be_nursery(theirs, self._serve)
        theirs.close()
        self._heard = b""
        self._loop.add_reader(self._control, self._hear, self._control)

    def _hear(self, control: socket.socket) -> None:
        try:
            heard = control.recv(65536)
        except OSError:
            heard = b""
        if not heard:
            self.close()
            return
        self._heard += heard
        whole = len(self._heard) - len(self._heard) % _ANSWER.size
        for what, pid, status in _ANSWER.iter_unpack(self._heard[:whole]):
            self._note(what, pid, status)
        self._heard = self._heard[whole:]

    def _note(self, what: int, pid: int, status: int) -> None:
        if what == BORN:
            child, born = self._expected.popleft()
            child.pid = pid
            self._children[pid] = child
            if not born.done():
                born.set_result(None)
        else:
            self._children.pop(pid).ended.set_result(os.waitstatus_to_exitcode(status))

    def _orphan(self) -> None:
        """Without a nursery nobody tells of them any more: whatever they did is lost."""
        for child in [*self._children.values(), *(child for child, _ in self._expected)]:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
            if not child.ended.done():
                child.ended.set_result(-signal.SIGKILL)
        for _, born in self._expected:
            if not born.done():
                born.set_result(None)
        self._children.clear()
        self._expected.clear()


def _bury(pid: int) -> None:
    until = time.monotonic() + PARTING
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.001)


def _be_nursery(control: socket.socket, serve: Serve) -> NoReturn:
    try:
        os.setsid()  # a Ctrl-C is for the worker, which decides what it means for its jobs
        signal.set_wakeup_fd(-1)
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        _Forks(control, serve).run()
    finally:
        os._exit(0)


class _Forks:
    """The nursery's side."""

    def __init__(self, control: socket.socket, serve: Serve) -> None:
        self._control, self._serve = control, serve
        self._living: set[int] = set()
        self._told, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._tell)

    def run(self) -> None:
        try:
            while self._hear():
                pass
        finally:
            for pid in self._living:
                os.kill(pid, signal.SIGKILL)
            for pid in self._living:
                os.waitpid(pid, 0)

    def _hear(self) -> bool:
        ready, _, _ = select.select([self._control.fileno(), self._told], [], [])
        if self._told in ready:
            os.read(self._told, 4096)
            self._reap()
        if self._control.fileno() not in ready:
            return True
        request, channels, _, _ = socket.recv_fds(self._control, _REQUEST.size, 1)
        if len(request) < _REQUEST.size:
            return False
        what, pid, number = _REQUEST.unpack(request)
        if what == FORK:
            self._fork(socket.socket(fileno=channels[0]))
        elif pid in self._living:
            os.kill(pid, number)
        return True

    def _fork(self, channel: socket.socket) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # a child that still ignores them as we do would miss them
        pid = os.fork()
        if pid == 0:
            self._be_child(channel)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        channel.close()
        self._living.add(pid)
        self._control.sendall(_ANSWER.pack(BORN, pid, 0))

    def _reap(self) -> None:
        while self._living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._living.discard(pid)
            self._control.sendall(_ANSWER.pack(ENDED, pid, status))

    def _be_child(self, channel: socket.socket) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*STOPPING, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
            for inherited in (self._told, self._tell):
                os.close(inherited)
            self._control.close()
            self._serve(channel)
            status = 0
        finally:
            flush_streams()
            os._exit(status)
