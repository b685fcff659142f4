"""Workers and producers in processes of their own, and what a fault can do to them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from itertools import count
from typing import TYPE_CHECKING, Self

import psycopg
import pytest

from pgwerk.worker.services.beat import BEATS_OF_PATIENCE
from pgwerk.worker.worker import WORKERS
from tests.faults.history.facts import KILLED
from tests.postgres import rows, wait_until
from tests.workplace import ROOT, Worker

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.faults.history import Log

OPEN = "select count(*) from {0}.job j where not exists (select from {0}.finished f where f.job_id = j.id)"
BEGUN = "select exists (select from {}.worker where beat > 0 and name ~ %s)"
CLIENTS = "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
DRAINED = 120.0  # seconds
BEAT = float(os.environ.get("PGWERK_TEST_BEAT", "0.4"))  # seconds
PATIENCE = BEATS_OF_PATIENCE * BEAT
HASTY = 5.0  # seconds of patience: less, and a busy machine may look like a dead worker


class Crew:
    """Workers of each kind in turn; `spared` of them meet no fault: somebody has to see who is dead."""

    def __init__(
        self, dsn: str, schema: str, log: Log, folder: Path, chance: random.Random,
        *, workers: int, spared: int, jobs: float, beat: float = BEAT,
    ) -> None:  # fmt: skip
        self.dsn, self.schema, self.log = dsn, schema, log
        self._folder, self._chance, self._beat, self._jobs = folder, chance, beat, jobs
        self._spared, self._names = spared, count(1)
        self._frozen: dict[int, float] = {}  # place of a worker, and when it wakes up
        self.workers = [self._worker(place) for place in range(workers)]
        self.producer = self._producer()

    def __enter__(self) -> Self:
        self.wait_for_all()
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*(worker.process for worker in self.workers), self.producer]:
            if process.poll() is None:
                process.kill()
                process.wait(20)

    def kill_a_worker(self) -> None:
        place = self._victim()
        self.log.fault(KILLED, self.workers[place].process.pid)
        self.workers[place].kill()
        self.workers[place] = self._worker(place)

    def freeze_a_worker(self, longest: float) -> None:
        """It wakes up by itself: after `thaw` has found that its time has come."""
        self.wait_for_all()
        place = self._victim()
        self.log.fault("a worker stopped", self.workers[place].process.pid)
        self.workers[place].process.send_signal(signal.SIGSTOP)
        self._frozen[place] = time.monotonic() + self._chance.uniform(0, longest)

    def thaw(self, *, all_of_them: bool = False) -> None:
        for place, until in list(self._frozen.items()):
            if all_of_them or time.monotonic() > until:
                self._wake(place)

    def retire_a_worker(self) -> None:
        self.replace(self.tell_to_stop())

    def tell_to_stop(self) -> int:
        """Also one that has just been started."""
        place = self._victim()
        self.log.fault("a worker told to stop", self.workers[place].process.pid)
        self.workers[place].process.send_signal(signal.SIGTERM)
        return place

    def replace(self, place: int) -> None:
        """One that was told to stop."""
        status = self.workers[place].process.wait(60)
        assert status == 0 or (status == -signal.SIGTERM and not self._has_begun(place)), status
        self.workers[place] = self._worker(place)

    def kill_the_producer(self) -> None:
        self.log.fault("a producer killed")
        self.producer.kill()
        self.producer.wait(20)
        self.producer = self._producer()

    def cut_connections(self) -> None:
        """Whosever they are."""
        self.wait_for_all()
        self.log.fault("connections terminated")
        for pid in self._backends(self._chance.randint(1, 4)):
            rows(self.dsn, "select pg_terminate_backend(%s)", pid)

    def kill_a_backend(self) -> None:
        """The server takes that for a crash, and starts all of itself anew, as soon as it has noticed."""
        self.wait_for_all()
        self.log.fault("a backend killed")
        with contextlib.closing(psycopg.connect(self.dsn)) as witness:
            wait_until(self._strikes_a_backend, "a backend is killed")
            with pytest.raises(psycopg.OperationalError):
                witness.execute("select pg_sleep(60)")

    def _strikes_a_backend(self) -> bool:
        (pid,) = self._backends(1)
        with contextlib.suppress(ProcessLookupError):  # it has gone by itself
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def wait_for_all(self) -> None:
        """A worker that cannot reach the server when it starts may give up; later it may not."""
        wait_until(lambda: all(map(self._has_begun, range(len(self.workers)))), "every worker is there")

    def _has_begun(self, place: int) -> bool:
        pid = self.workers[place].process.pid
        return rows(self.dsn, BEGUN.format(self.schema), f":{pid}$") == [(True,)]

    def _backends(self, most: int) -> list[int]:
        pids = [pid for (pid,) in rows(self.dsn, CLIENTS)]
        return self._chance.sample(pids, min(len(pids), most))

    def finish(self) -> None:
        """No more jobs come, those that are there end, and everybody stops as they should."""
        self.drain()
        self.stop()

    def drain(self) -> None:
        self.producer.terminate()
        assert self.producer.wait(60) in (0, -signal.SIGTERM)  # it may have been started a moment ago
        self.thaw(all_of_them=True)
        self.wait_for_all()
        wait_until(lambda: rows(self.dsn, OPEN.format(self.schema)) == [(0,)], "every job has ended", DRAINED)

    def stop(self) -> None:
        assert [worker.stop() for worker in self.workers] == [0] * len(self.workers)

    def _victim(self) -> int:
        """One that may be struck, awake."""
        place = self._chance.randrange(self._spared, len(self.workers))
        self._wake(place)
        return place

    def _wake(self, place: int) -> None:
        if self._frozen.pop(place, None) is not None:
            self.workers[place].process.send_signal(signal.SIGCONT)

    def _worker(self, place: int) -> Worker:
        kind = [*WORKERS][place % len(WORKERS)]
        options = ("--heartbeat-interval", str(self._beat), "--sweep-interval", "0.5", "--concurrency", "5")
        worker = Worker(self.dsn, self.schema, self._folder / "workers.log", "--worker-type", kind, *options)
        if BEATS_OF_PATIENCE * self._beat < HASTY:
            self.log.fault("a hasty worker", worker.process.pid)
        return worker

    def _producer(self) -> subprocess.Popen[bytes]:
        said = [f"p{next(self._names)}", str(self._chance.randrange(10**6)), str(self._jobs)]
        with (self._folder / "producers.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.faults.traffic", *said],
                cwd=ROOT, stdout=output, stderr=output, start_new_session=True,
                env=os.environ | {"PGWERK_DSN": self.dsn, "PGWERK_SCHEMA": self.schema},
            )  # fmt: skip
