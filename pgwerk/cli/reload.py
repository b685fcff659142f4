"""For development: a worker that begins anew, in a fresh process, when a file of its app changes.

The process that watches imports nothing of the app, so whatever an edit breaks, it lives to see the next one. Its
worker is in a process group of its own: a Ctrl-C reaches the watcher alone, which passes it on. The worker holds the
reading end of a pipe that ends with the watcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pgwerk.cli.find import parts_of
from pgwerk.errors import MissingExtra
from pgwerk.signals import stop_signals

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import ModuleType

LIFELINE = "_PGWERK_LIFELINE"  # in a worker's environment: the descriptor that ends with whoever started it

logger = logging.getLogger("pgwerk")


def take_lifeline() -> int | None:
    """None where nobody watches. What this process starts in turn is not meant."""
    given = os.environ.pop(LIFELINE, None)
    return None if given is None else int(given)


def run_reloaded(app: str) -> int:
    """This same command, again and again; the exit status of the last one. Raises `MissingExtra`."""
    return asyncio.run(_Reloader(_library(), _folders(app)).run())


class _Reloader:
    def __init__(self, watchfiles: ModuleType, folders: list[Path]) -> None:
        self._watchfiles, self._folders = watchfiles, folders
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # what has changed is said here
        self._stopping = asyncio.Event()
        self._signal = signal.SIGTERM
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> int:
        self._lifeline, end = os.pipe()
        changes = self._watchfiles.awatch(
            *self._folders, watch_filter=self._watchfiles.PythonFilter(), stop_event=self._stopping
        )
        try:
            with stop_signals(self._hear):
                while True:
                    status = await self._run_until_changed(changes)
                    if self._stopping.is_set():
                        return status
        finally:
            os.close(self._lifeline)
            os.close(end)

    async def _run_until_changed(self, changes: AsyncGenerator[set[tuple[int, str]], None]) -> int:
        """Or until it is to stop. The files are watched before they are read: no change goes unseen."""
        change = asyncio.create_task(_next(changes))
        self._process = process = await self._start()
        if self._stopping.is_set():
            self._pass_on()
        ended = asyncio.create_task(process.wait())
        await asyncio.wait([change, ended], return_when=asyncio.FIRST_COMPLETED)
        if not (change.done() or self._stopping.is_set()):
            logger.warning(
                "the worker has ended with exit status %d; it starts again when a file changes", ended.result()
            )
        if found := await change:
            logger.info("%s has changed; the worker starts anew", ", ".join(sorted(map(os.path.relpath, found))))
            self._pass_on()
        status = await ended
        self._process = None
        return status if status >= 0 else 128 - status  # as shells have it

    async def _start(self) -> asyncio.subprocess.Process:
        """Without compiled modules of its own: Python would take one for that of an edit in the same second."""
        environment = os.environ | {LIFELINE: str(self._lifeline), "PYTHONDONTWRITEBYTECODE": "1"}
        return await asyncio.create_subprocess_exec(
            sys.executable, *sys.orig_argv[1:], env=environment,
            stdin=asyncio.subprocess.DEVNULL, pass_fds=[self._lifeline], process_group=0,
        )  # fmt: skip

    def _hear(self, name: str) -> None:
        self._signal = signal.Signals[name]
        self._stopping.set()
        self._pass_on()

    def _pass_on(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None:
                self._process.send_signal(self._signal)


async def _next(changes: AsyncGenerator[set[tuple[int, str]], None]) -> set[str]:
    """Of which files; of none when it is to stop."""
    return {path for _, path in await anext(changes, set())}


def _folders(app: str) -> list[Path]:
    """The current one, and that of the app's package or module where it is elsewhere."""
    here, (module, _) = Path.cwd(), parts_of(app)
    spec = importlib.util.find_spec(module.partition(".")[0])
    places = (spec.submodule_search_locations or [str(Path(spec.origin or "").parent)]) if spec else []
    return [here, *(place for place in map(Path, places) if place.is_dir() and not place.is_relative_to(here))]


def _library() -> ModuleType:
    try:
        return importlib.import_module("watchfiles")
    except ImportError as error:
        raise MissingExtra('--reload needs a library that is not here; pip install "pgwerk[reload]"') from error
