"""The trials: each takes place in a database of its own, and gives its figures by name."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from harness import fresh_database
from meters import Log, PostgresMeter, RedisMeter, peak_memory, seconds_of_group
from systems import System

ENQUEUE_FOR = 1.0  # seconds
BULK, BULKS = 10_000, 5  # jobs of one, and how many there are after the first, which warms up what they use
DRAIN_FOR = 1.0  # seconds that the jobs of a drain should last, by what is known of the system
FILL_FOR = 2.5  # … and that enqueueing them may take
MOST_JOBS, FIRST_JOBS, FEWEST_JOBS = 60_000, 100, 50
FEWEST_COUNTED = 200  # jobs by which a cost is divided: the processors count in steps of 10 ms
PICKED_UP, PAUSE = 150, 0.02  # jobs of a latency trial, seconds between them
PATIENCE = 45.0  # seconds for what ought to take two
Figures = dict[str, float]
Meter = PostgresMeter | RedisMeter


@dataclass
class Bench:
    """Where systems are measured, and what is known of each by now."""

    postgres: str
    redis: str
    redis_process: int
    shared: Path
    backlog: int = 1_000_000
    known: dict[str, Figures] = field(default_factory=dict)
    waited: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds that each job waited for an idle worker, of all rounds: of a few jobs, a percentile is chance."""

    _templates: dict[str, str] = field(default_factory=dict)
    _ending: ExitStack = field(default_factory=ExitStack)

    def jobs_for(self, system: System, lasting: float = DRAIN_FOR, most: int = MOST_JOBS) -> int:
        """So many that they last long enough to be timed, and are enqueued in time."""
        known = self.known.get(system.name, {})
        if not {"drain", "bulk"} <= known.keys():
            return FIRST_JOBS
        wanted = min(known["drain"] * lasting, known["bulk"] * FILL_FOR * lasting / DRAIN_FOR, most)
        return max(FEWEST_JOBS, round(wanted))

    @contextmanager
    def place(self, system: System) -> Iterator[tuple[str, Meter, Log]]:
        with closing(Log(self.shared / "runs")) as log:
            if system.on_redis:
                flush = ["redis-cli", "-s", urlsplit(self.redis).path, "flushall"]
                subprocess.run(flush, check=True, stdout=subprocess.DEVNULL)
                set_up(system, self.redis, log)
                yield self.redis, RedisMeter(self.redis_process), log
                return
            with (
                fresh_database(self.postgres, self._template(system, log)) as where,
                closing(PostgresMeter(where)) as meter,
            ):
                yield where, meter, log

    def _template(self, system: System, log: Log) -> str:
        """A database that is set up, for each system once: many take longer for that than for a trial."""
        if system.name not in self._templates:
            where = self._ending.enter_context(fresh_database(self.postgres))
            set_up(system, where, log)
            self._templates[system.name] = urlsplit(where).path[1:]
        return self._templates[system.name]

    def pick_up(self, system: System) -> Figures:
        if not (waited := self.waited.get(system.name)):
            return {}
        centiles = quantiles(waited, n=100, method="inclusive")
        return {"latency p50": median(waited), "latency p95": centiles[94], "latency p99": centiles[98]}

    def close(self) -> None:
        self._ending.close()


def set_up(system: System, where: str, log: Log) -> None:
    command, environment = system.command("setup", where), system.surroundings(str(log.path))
    subprocess.run(command, env=environment, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL,
                   stderr=log.complaints)  # fmt: skip


@contextmanager
def folder() -> Iterator[Path]:
    """In memory, where there is such a place: what the handlers write shall cost as little as it can."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
    with tempfile.TemporaryDirectory(prefix="pgwerk-bench-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


class Player:
    """A process of an adapter, at the head of a group of its own."""

    def __init__(self, system: System, log: Log, role: str, where: str, *more: str) -> None:
        self._what = f"{role} of {system.name}"
        self._process: Any = subprocess.Popen(
            system.command(role, where, *more), env=system.surroundings(str(log.path)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.complaints, text=True, process_group=0,
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        return seconds_of_group(self._process.pid)

    @property
    def memory(self) -> int:
        return peak_memory(self._process.pid)

    def tell(self, *words: Any) -> None:
        print(json.dumps(words), file=self._process.stdin, flush=True)

    def hear(self) -> str:
        if line := self._process.stdout.readline():
            return str(line)
        raise RuntimeError(f"the {self._what} ended with status {self._process.wait()}")

    def ask(self, *words: Any) -> Any:
        self.tell(*words)
        return json.loads(self.hear())

    def close(self) -> None:
        """Politely, then not: what is measured is over."""
        self._process.stdin.close()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(3.0)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def all_playing(count: int, system: System, log: Log, role: str, where: str, *more: str) -> Iterator[list[Player]]:
    """They get ready side by side."""
    with ExitStack() as ending:
        players = [ending.enter_context(closing(Player(system, log, role, where, *more))) for _ in range(count)]
        for player in players:
            player.hear()
        yield players


@contextmanager
def playing(system: System, log: Log, role: str, where: str, *more: str) -> Iterator[Player]:
    with all_playing(1, system, log, role, where, *more) as (player,):
        yield player


def enqueueing(bench: Bench, system: System) -> Figures:
    """One by one, fifty tasks at once, and in bulk."""
    with bench.place(system) as (where, _, log), playing(system, log, "produce", where) as producer:
        one = rate(producer.ask("one_by_one", ENQUEUE_FOR))
        tasks = rate(producer.ask("tasks", ENQUEUE_FOR))
        bulk = producer.ask("bulk", BULK if one > BULK / FILL_FOR else round(max(1000, one * FILL_FOR / 2)))
        memory = {"producer memory": bulk["memory"]} if "memory" in bulk else {}
        return {"one": one, "tasks": tasks, "bulk": bulk_rate(producer, rate(bulk)), **memory}


def bulk_rate(producer: Player, first: float) -> float:
    """A slow peer has had the one, as large as takes some seconds."""
    if first < BULK / FILL_FOR:
        return first
    return median(rate(producer.ask("bulk", BULK)) for _ in range(BULKS))


def draining_by_itself(bench: Bench, system: System) -> Figures:
    """Where the producer has a verb for it, as nothing is there that would run the jobs."""
    with bench.place(system) as (where, _, log), playing(system, log, "produce", where) as producer:
        producer.ask("bulk", MOST_JOBS)
        return {"drain 10": rate(producer.ask("drain", MOST_JOBS))}


def draining(bench: Bench, system: System, concurrency: int, processes: int) -> Figures:
    """From the first run to the moment in which every job has run, and the system says that none is unfinished."""
    name = f"drain {processes}x{concurrency}" if processes > 1 else f"drain {concurrency}"
    jobs = bench.jobs_for(system)
    with bench.place(system) as (where, meter, log), playing(system, log, "produce", where) as producer:
        empty = meter.bytes()
        with used(meter, jobs, "fill") as filling:
            before = producer.seconds
            producer.ask("bulk", jobs)
            filling["fill client"] = (producer.seconds - before) * 1e6 / jobs
        with all_playing(processes, system, log, "work", where, str(concurrency)) as workers:
            before = sum(worker.seconds for worker in workers)
            with used(meter, jobs, "run") as running:
                for worker in workers:
                    worker.tell()
                wait_for(log, jobs, f"{jobs} runs by {system.name}")
                running["run client"] = (sum(worker.seconds for worker in workers) - before) * 1e6 / jobs
            seconds = until_done(producer, log)
            memory = max(worker.memory for worker in workers)
        costs = {"commits": meter.commits() / jobs, "bytes": (meter.bytes() - empty) / jobs} | filling | running
    figures = {name: jobs / seconds, f"{name} runs": len(log) / jobs}
    if name == "drain 10":
        figures |= {"worker memory": memory} | (costs if jobs >= FEWEST_COUNTED else {})
    return figures


def answering(bench: Bench, system: System) -> Figures:
    """Pick-up by an idle worker; then fifty tasks enqueue for two seconds while it works: what it runs meanwhile."""
    with (
        bench.place(system) as (where, _, log),
        playing(system, log, "produce", where) as producer,
        playing(system, log, "work", where, "10") as worker,
    ):
        worker.tell()
        producer.ask("trickle", 5, 0.0)
        wait_for(log, 5, f"the first runs by {system.name}")
        time.sleep(1.0)
        slow = bench.known.get(system.name, {}).get("latency p50", 0.0) > 100
        jobs = 10 if slow else PICKED_UP
        producer.ask("trickle", jobs, PAUSE)
        wait_for(log, 5 + jobs, f"{jobs} runs by {system.name}")
        bench.waited.setdefault(system.name, []).extend((ran - sent) * 1000 for sent, ran in log.runs()[5:])
        before = len(log)
        began = time.monotonic()
        producer.ask("tasks", 2 * ENQUEUE_FOR)
        together = (len(log) - before) / (time.monotonic() - began)
    return {"together": together}


@contextmanager
def used(meter: Meter, jobs: int, what: str) -> Iterator[Figures]:
    """Microseconds of the server's processors, and bytes of WAL, a job."""
    figures: Figures = {}
    seconds, written = meter.seconds(), meter.wal()
    yield figures
    figures[f"{what} server"] = (meter.seconds() - seconds) * 1e6 / jobs
    figures[f"{what} wal"] = (meter.wal() - written) / jobs


def rate(done: Figures) -> float:
    return done["jobs"] / done["seconds"]


def wait_for(log: Log, runs: int, what: str, patience: float = PATIENCE) -> None:
    until = time.monotonic() + patience
    while len(log) < runs:
        if time.monotonic() > until:
            raise TimeoutError(f"{len(log)} instead of {what}")
        time.sleep(0.002)


def until_done(producer: Player, log: Log) -> float:
    """Seconds from the first run to the question to which the system answers that none is unfinished."""
    first = log.runs()[0][1]
    until = time.monotonic() + PATIENCE
    while (asked := time.monotonic()) < until:
        if not producer.ask("unfinished"):
            return asked - first
        time.sleep(0.005)
    raise TimeoutError("all jobs have run, but not all are done")
