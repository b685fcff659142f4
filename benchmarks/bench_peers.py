"""pgwerk and its peers, in turn, on one Postgres (and one Redis for those that live there), beside the raw limit.

    python benchmarks/bench_peers.py [--dsn DSN] [--rounds 5] [--deep-rounds 2] [--backlog-rounds 1] [--backlog 1000000]
        [--systems NAME ...] [--trials NAME ...] [--results benchmarks/RESULTS.md] [--json FILE]

Each system is in its documented best configuration, in an environment of its own, made from the package index; each
trial has a fresh database. In a round every system takes its turn at a trial before the next trial begins, and each
round begins with another system. A system that fails at a trial has no figure there, and its error is in the report.
Under a snapshot, and beside a million jobs of each kind, a trial takes long: it takes part in the last rounds alone.
Redis must be installed (redis-server); without it the systems on Redis are left out, and the report says so.
"""

import argparse
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import bench_features
import psycopg
import report
from burdened import beside_backlogs, speaking, under_a_snapshot
from harness import HERE, facts, options, print_facts, running_server, save, wait_until
from systems import SYSTEMS, System, prepare
from trials import Bench, Figures, answering, draining, draining_by_itself, enqueueing, folder

FEATURED_JOBS = 20_000


@dataclass(frozen=True)
class Trial:
    measure: Callable[[Bench, System], Figures]
    is_for: Callable[[System], bool] = lambda system: system.has_worker
    option: str = "rounds"
    """Which says in how many rounds, the last ones."""


def features(bench: Bench, _system: System) -> Figures:
    return {report.MIX + name: rate for name, rate in bench_features.rates(bench.postgres, FEATURED_JOBS).items()}


def drain(concurrency: int, processes: int) -> Trial:
    return Trial(partial(draining, concurrency=concurrency, processes=processes))


def deep(measure: Callable[[Bench, System], Figures], option: str = "deep_rounds") -> Trial:
    return Trial(measure, lambda system: system.works_on_postgres and system.is_deep, option)


TRIALS = {
    "enqueueing": Trial(enqueueing, lambda _: True),
    "drain 10": drain(10, 1),
    "drain 100": drain(100, 1),
    "drain 2x10": drain(10, 2),
    "drain 4x10": drain(10, 4),
    "pgbench": Trial(draining_by_itself, lambda system: system.adapter == "with_pgbench"),
    "answering": Trial(answering),
    "statements": Trial(speaking, lambda system: system.works_on_postgres, "deep_rounds"),
    "backlogs": deep(beside_backlogs, "backlog_rounds"),
    "snapshot": deep(under_a_snapshot),
    "features": Trial(features, lambda system: system.has_worker and not system.environment, "deep_rounds"),
}


def main() -> None:
    chosen = parse_options()
    systems = [system for system in SYSTEMS if system.name in chosen.systems]
    has_redis = shutil.which("redis-server") is not None
    if not has_redis:
        print("there is no redis-server: the systems on Redis are left out", flush=True)
        systems = [system for system in systems if not system.on_redis]
    for environment in sorted({system.environment for system in systems} - {""}):
        prepare(environment)
    with running_server(chosen.dsn) as postgres, folder() as shared, redis(shared, wanted=has_redis) as (url, process):
        found = facts(postgres)
        print_facts(found)
        with closing(Bench(postgres, url, process, shared, chosen.backlog)) as bench:
            run = Run(bench, systems)
            run.get_to_know()
            run.all_rounds({name: getattr(chosen, TRIALS[name].option) for name in chosen.trials}, chosen.rounds)
    save(chosen.json, facts=found, rounds=run.rounds, errors=run.errors)
    report.write(chosen.results, systems, run.medians(), found, chosen, run.errors)


def parse_options() -> argparse.Namespace:
    names = [system.name for system in SYSTEMS]
    parser = options(__doc__, rounds=5)
    parser.add_argument("--deep-rounds", type=int, default=2, help="of statements, snapshots and features")
    parser.add_argument("--backlog-rounds", type=int, default=1, help="of drains beside backlogs")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="jobs of each kind")
    parser.add_argument("--systems", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS), metavar="NAME")
    parser.add_argument(
        "--results", type=Path, default=HERE / "RESULTS.md", help="the report; its charts lie beside it"
    )
    chosen = parser.parse_args()
    chosen.deep_rounds = min(chosen.deep_rounds, chosen.rounds)
    chosen.backlog_rounds = min(chosen.backlog_rounds, chosen.rounds)
    return chosen


class Run:
    """All rounds, and what came of them by system."""

    def __init__(self, bench: Bench, systems: Sequence[System]) -> None:
        self._bench, self._systems = bench, systems
        self.rounds: list[dict[str, Figures]] = []
        self.errors: dict[str, str] = {}

    def get_to_know(self) -> None:
        """How fast each is about, so that its jobs can be counted out; not counted."""
        for system in self._systems:
            for trial in ("enqueueing", "drain 10") if system.has_worker else ():
                self._bench.known.setdefault(system.name, {}).update(known(self._measured(system, trial)))

    def all_rounds(self, times: Mapping[str, int], rounds: int) -> None:
        """Each trial in as many of the last ones."""
        began = time.monotonic()
        for turn in range(rounds):
            self._round(turn, [name for name, wanted in times.items() if turn >= rounds - wanted])
            self._learn()
            minutes = (time.monotonic() - began) / 60
            print(f"round {turn + 1} of {rounds} is done after {minutes:.1f} minutes", flush=True)

    def _round(self, turn: int, trials: Sequence[str]) -> None:
        figures: dict[str, Figures] = {system.name: {} for system in self._systems}
        first = turn % len(self._systems)
        for name in trials:
            for system in [*self._systems[first:], *self._systems[:first]]:
                if TRIALS[name].is_for(system):
                    figures[system.name] |= self._measured(system, name)
        self.rounds.append(figures)

    def _learn(self) -> None:
        """What was known at first is of a hundred jobs: too few to tell how many last for a second."""
        for system, figures in self.medians().items():
            self._bench.known.setdefault(system, {}).update(known(figures))

    def medians(self) -> dict[str, Figures]:
        return {system.name: self._median(system.name) | self._bench.pick_up(system) for system in self._systems}

    def _median(self, system: str) -> Figures:
        names = dict.fromkeys(name for each in self.rounds for name in each[system])
        return {name: median(each[system][name] for each in self.rounds if name in each[system]) for name in names}

    def _measured(self, system: System, trial: str) -> Figures:
        key = f"{system.name}: {trial}"
        if key in self.errors:
            return {}
        try:
            figures = TRIALS[trial].measure(self._bench, system)
        except (RuntimeError, OSError, subprocess.SubprocessError, ValueError, psycopg.Error) as error:
            self.errors[key] = f"{type(error).__name__}: {error}"
            print((self._bench.shared / "runs.err").read_text()[-2000:], flush=True)
            print(f"{key}: {self.errors[key]}", flush=True)
            return {}
        print(key, {name: round(value) for name, value in figures.items()}, flush=True)
        return figures


def known(figures: Figures) -> Figures:
    wanted = {"drain": "drain 10", "bulk": "bulk", "latency p50": "latency p50"}
    return {name: figures[figure] for name, figure in wanted.items() if figure in figures}


@contextmanager
def redis(shared: Path, *, wanted: bool) -> Iterator[tuple[str, int]]:
    """As Debian configures it, with snapshots and without a log of every write (it loses what came since the last), and
    on a socket of the file system, as the Postgres is.
    """
    if not wanted:
        yield "", 0
        return
    path = str(shared / "redis")
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", path, "--dir", str(shared), "--loglevel", "warning"]
    )
    ping = ["redis-cli", "-s", path, "ping"]
    try:
        wait_until(
            lambda: subprocess.run(ping, capture_output=True, check=False).stdout == b"PONG\n", "an answer of Redis"
        )
        yield f"unix://{path}", server.pid
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
