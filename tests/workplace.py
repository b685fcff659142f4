"""Worker processes for the tests: the app that they import, and how to start and end them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pgwerk import Werk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parent.parent

app = Werk()  # of PGWERK_DSN and PGWERK_SCHEMA


class Worker:
    """`behind` is a command that runs the worker's own, `environment` what it finds beside the usual."""

    def __init__(
        self, dsn: str, schema: str, log: Path, *options: str, behind: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*behind, sys.executable, "-m", "pgwerk", "worker", "tests.workplace:app", *options],
                cwd=ROOT, stderr=output, stdout=output, start_new_session=True,
                env=os.environ | {"PGWERK_DSN": dsn, "PGWERK_SCHEMA": schema} | dict(environment),
            )  # fmt: skip

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@contextlib.contextmanager
def workers(count: int, *given: Any, **more: Any) -> Iterator[list[Worker]]:
    """`given` is what `Worker` takes; the log's name gets the worker's number."""
    dsn, schema, log, *options = given
    started = [Worker(dsn, schema, Path(f"{log}.{number}"), *options, **more) for number in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            if worker.process.poll() is None:
                worker.kill()
