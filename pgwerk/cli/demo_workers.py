"""The demo's worker processes: the command that anybody would type, in the background."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from pgwerk.cli.reload import LIFELINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgwerk.app import Werk

STOP = 10.0  # seconds for workers to stop, whose jobs take milliseconds


@contextlib.contextmanager
def worker_processes(app: Werk, processes: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """In a process group of their own, so that Ctrl-C is this process's affair; stopped on the way out, and when this
    process is killed: their stdin, which ends with it, is their lifeline.
    """
    named = [
        "worker",
        "pgwerk.cli.demo_jobs:app",
        "--dsn",
        str(app.config.dsn),
        "--processes",
        str(processes),
    ]
    with (
        log.open("wb") as out,
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "pgwerk", *named],
            env=os.environ | {LIFELINE: "0"},
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            process_group=0,
        ) as workers,
    ):
        try:
            yield workers
        finally:
            workers.terminate()
            try:
                workers.wait(STOP)
            except subprocess.TimeoutExpired:
                workers.kill()  # the worker processes see that their parent is gone
