"""pgwerk and its peers, in turn, on one Postgres (and one Redis for those that live there), beside the raw limit.

    python benchmarks/bench_peers.py [--dsn DSN] [--rounds 5] [--systems NAME ...] [--minutes 40] [--json FILE]
        [--results benchmarks/RESULTS.md]

Each system is in its documented best configuration, in an environment of its own, made from the package index; each
trial has a fresh database. In a round every system takes its turn at a trial before the next trial begins, and each
round begins with another system. A system that fails at a trial has no figure there, and its error is in the report.
Redis must be installed (redis-server); without it the systems on Redis are left out, and the report says so.
"""

import argparse
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import psycopg
import report
from harness import HERE, facts, options, print_facts, running_server, wait_until
from systems import SYSTEMS, System, prepare
from trials import Bench, Figures, answering, draining, enqueueing, folder

Trial = Callable[[Bench, System], Figures]

TRIALS: dict[str, Trial] = {
    "enqueueing": enqueueing,
    "drain 10": partial(draining, concurrency=10, processes=1),
    "drain 100": partial(draining, concurrency=100, processes=1),
    "drain 2x10": partial(draining, concurrency=10, processes=2),
    "drain 4x10": partial(draining, concurrency=10, processes=4),
    "answering": answering,
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
    began = time.monotonic()
    with running_server(chosen.dsn) as postgres, folder() as shared, redis(shared, wanted=has_redis) as (url, process):
        found = facts(postgres)
        print_facts(found)
        bench = Bench(postgres, url, process, shared)
        run = Run(bench, systems, chosen.trials)
        run.get_to_know()
        for turn in range(chosen.rounds):
            run.round(turn)
            minutes = (time.monotonic() - began) / 60
            print(f"round {turn + 1} of {chosen.rounds} is done after {minutes:.1f} minutes", flush=True)
    figures = run.medians()
    if chosen.json:
        chosen.json.write_text(
            json.dumps({"facts": found, "rounds": run.rounds, "errors": run.errors}, indent=2) + "\n"
        )
    report.write(chosen.results, systems, figures, found, chosen.rounds, run.errors)


def parse_options() -> argparse.Namespace:
    names = [system.name for system in SYSTEMS]
    parser = options(__doc__, rounds=5)
    parser.add_argument("--systems", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS), metavar="NAME")
    parser.add_argument(
        "--results", type=Path, default=HERE / "RESULTS.md", help="the report; its charts lie beside it"
    )
    return parser.parse_args()


class Run:
    """All rounds, and what came of them by system."""

    def __init__(self, bench: Bench, systems: Sequence[System], trials: Sequence[str]) -> None:
        self._bench, self._systems, self._trials = bench, systems, trials
        self.rounds: list[dict[str, Figures]] = []
        self.errors: dict[str, str] = {}

    def get_to_know(self) -> None:
        """How fast each is about, so that its jobs can be counted out; not counted."""
        for system in self._systems:
            for trial in ("enqueueing", "drain 10") if system.has_worker else ():
                self._bench.known.setdefault(system.name, {}).update(known(self._measured(system, trial)))

    def round(self, turn: int) -> None:
        figures: dict[str, Figures] = {system.name: {} for system in self._systems}
        first = turn % len(self._systems)
        for name in self._trials:
            for system in [*self._systems[first:], *self._systems[:first]]:
                if system.has_worker or name == "enqueueing":
                    figures[system.name] |= self._measured(system, name)
        self.rounds.append(figures)

    def medians(self) -> dict[str, Figures]:
        return {system.name: self._median(system.name) for system in self._systems}

    def _median(self, system: str) -> Figures:
        names = {name for each in self.rounds for name in each[system]}
        return {name: median(each[system][name] for each in self.rounds if name in each[system]) for name in names}

    def _measured(self, system: System, trial: str) -> Figures:
        key = f"{system.name}: {trial}"
        if key in self.errors:
            return {}
        try:
            figures = TRIALS[trial](self._bench, system)
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
    """As Debian configures it, with snapshots and without a log of every write; it loses what came since the last."""
    if not wanted:
        yield "", 0
        return
    port = str(20_000 + secrets.randbelow(20_000))
    command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", str(shared), "--loglevel", "warning"]
    server = subprocess.Popen(command)
    ping = ["redis-cli", "-p", port, "ping"]
    try:
        wait_until(
            lambda: subprocess.run(ping, capture_output=True, check=False).stdout == b"PONG\n", "an answer of Redis"
        )
        yield f"redis://127.0.0.1:{port}/0", server.pid
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
