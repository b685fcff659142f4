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
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
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
    lines, found = run(
        "bench_horizon.py", server, tmp_path / "found.json", "--jobs", "6000"
    )  # a tenth is more than a batch
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
    """Ours alone, as the others would have to be installed: the same trials by the same processes."""
    report = tmp_path / "RESULTS.md"
    options = ("--systems", "pgwerk", "--backlog", "100", "--results", str(report))
    _, found = run("bench_peers.py", server, tmp_path / "found.json", *options)
    figures = {name: value for each in found["rounds"] for name, value in each["pgwerk"].items()}
    assert found["errors"] == {}
    assert are_measured(value for name, value in figures.items() if not name.endswith((" client", " server")))
    assert all(value == 1 for name, value in figures.items() if name.endswith(" runs"))
    rows = [line.split("|")[1:-1] for line in report.read_text().splitlines() if line.startswith("| pgwerk |")]
    assert [len(cells) for cells in rows] == [9, 4, 13, 8, 4]
    assert all(cell.strip().startswith("**") for row in rows for cell in row[1:] if cell.strip() not in ("0", "0.00"))
    features = report.read_text().partition("## What features cost")[2].partition("##")[0]
    assert re.findall(r"^\| (\w[^|]*) \| [\d,]+ \| \d\.\d\d \|$", features, re.MULTILINE) == [
        "plain", "half in groups", "grouped", "half with callbacks", "half dependent"
    ]  # fmt: skip
    assert len(list((tmp_path / "charts").glob("*.svg"))) == 4


def test_growth_is_measured_beside_each_backlog(server: str, tmp_path: Path) -> None:
    report = tmp_path / "GROWTH.md"
    options = ("--sizes", "10", "100", "--jobs", "300", "--results", str(report))
    _, found = run("bench_growth.py", server, tmp_path / "found.json", *options)
    (figures,) = found["rounds"]
    assert len(figures) == 13
    assert are_measured(each[name] for each in figures.values() for name in ("drain", "enqueue"))
    assert sum(line.startswith("| ") for line in report.read_text().splitlines()) == 14
    assert (tmp_path / "charts" / "growth.svg").exists()
