"""Each benchmark runs to its end and its figures come out complete. How fast it was is not this test's affair."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(name: str, server: str, file: Path, *options: str) -> tuple[list[str], Any]:
    """The lines that it prints, and the figures that it saves."""
    command = [sys.executable, str(BENCHMARKS / name), "--dsn", server, "--rounds", "1", "--json", str(file), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), json.loads(file.read_text())


def are_measured(values: Any) -> bool:
    return all(math.isfinite(value) and value > 0 for value in values)


def test_the_table_has_a_figure_for_every_row_and_its_limit(server: str, tmp_path: Path) -> None:
    (facts, _, heading, *rows), found = run("bench.py", server, tmp_path / "found.json", "--scale", "0.01")
    assert re.search(r"cores \d+.* server_version \d+.* fsync o", facts)
    assert heading.split() == ["ours", "raw", "ratio"]
    units = [re.findall(r"[\d,.]+ (/s|ms|B)(?: |$)", row[40:63]) for row in rows]
    assert units == [["/s"] * 2] * 8 + [["ms"] * 2] * 3 + [["B"], ["B"], ["B", "B"], ["B"]]
    assert found["rounds"] == [found["medians"]]
    assert are_measured(found["medians"].values())


def test_the_horizon_gives_a_rate_for_each_tenth(server: str, tmp_path: Path) -> None:
    lines, found = run("bench_horizon.py", server, tmp_path / "found.json", "--jobs", "2000")
    (rates,) = found["rounds"]
    assert {name: len(tenths) for name, tenths in rates.items()} == {"snapshot held": 10, "no snapshot": 10}
    assert are_measured(found["last_to_first"].values())
    assert [len(line.split()) for line in lines[-2:]] == [2 + 10 + 1 + 4, 2 + 10 + 1]


def test_features_stand_beside_jobs_without_them(server: str, tmp_path: Path) -> None:
    lines, found = run("bench_features.py", server, tmp_path / "found.json", "--jobs", "400", "--blocked", "500")
    assert are_measured(found["medians"].values())
    assert found["rounds"] == [found["medians"]]
    assert lines[-1].split()[0] == "apply"


def test_an_idle_worker_is_counted_by_statement(server: str, tmp_path: Path) -> None:
    _, found = run("bench_idle.py", server, tmp_path / "found.json", "--seconds", "3", "--settle", "0")
    (cost,) = found["rounds"]
    assert {"beat", "claim", "look", "outlook"} <= cost["statements"].keys()
    assert math.isclose(cost["all_statements"], sum(cost["statements"].values()))
    assert math.isclose(cost["beyond_heartbeat"], cost["all_statements"] - cost["statements"]["beat"])


def test_peers_stand_beside_ours(server: str, tmp_path: Path) -> None:
    lines, found = run("bench_peers.py", server, tmp_path / "found.json", "--jobs", "200", "--systems", "ours")
    (rates,) = found["rounds"]
    assert rates["ours"].keys() == {"drain", "enqueue_bulk", "enqueue_one"}
    assert are_measured(rates["ours"].values())
    assert lines[-1].split()[:2] == ["ours", "200"]
