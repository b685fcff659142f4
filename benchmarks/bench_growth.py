"""What a job costs as the tables around it grow: rates and processor time beside backlogs of every kind and size.

    python benchmarks/bench_growth.py [--dsn DSN] [--rounds 5] [--sizes 1000 100000 1000000 10000000] [--jobs 20000]
        [--results benchmarks/GROWTH.md] [--json FILE]

A backlog is written by SQL, vacuumed, and left alone: jobs of a lower priority in the same queue, finished jobs,
jobs of next month, jobs in 10,000 other queues, jobs in 100,000 groups that nobody works on, live workers that have
nothing to do. Beside it one worker process runs jobs that are enqueued afterwards. Sizes take turns within a round;
those above a million, which take minutes to write, have their turn in the first round alone.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

import pygal
from burdened import backlogs, write_backlog
from harness import HERE, facts, options, print_facts, running_server, save
from systems import SYSTEMS
from trials import Bench, folder, playing, used, wait_for

OURS = SYSTEMS[0]
NONE = "none"
MOST = {"idle workers": 1_000}
OFTEN = 1_000_000  # the largest size that every round measures
FLAT = 1.3

Figures = dict[str, float]


def main() -> None:
    chosen = parse_options()
    with running_server(chosen.dsn) as server, folder() as shared:
        found = facts(server)
        print_facts(found)
        with closing(Bench(server, "", 0, shared)) as bench:
            sizes = [chosen.sizes, *[[size for size in chosen.sizes if size <= OFTEN]] * (chosen.rounds - 1)]
            rounds = [one_round(bench, each, chosen.jobs) for each in sizes]
    medians = {
        name: {key: median(each[name][key] for each in rounds if name in each) for key in figures}
        for name, figures in rounds[0].items()
    }
    write(chosen.results, medians, found, chosen)
    save(chosen.json, facts=found, rounds=rounds)


def parse_options() -> argparse.Namespace:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--results", type=Path, default=HERE / "GROWTH.md", help="the report; its chart lies beside it")
    return parser.parse_args()


def one_round(bench: Bench, sizes: Sequence[int], jobs_to_run: int) -> dict[str, Figures]:
    """By the name of the backlog and its size."""
    figures = {f"{NONE} 0": measured(bench, "", 0, jobs_to_run)}
    for name, backlog in backlogs(OURS).items():
        for size in sorted({min(size, MOST.get(name, size)) for size in sizes}):
            figures[f"{name} {size}"] = measured(bench, backlog, size, jobs_to_run)
            print(
                f"{name} {size:,}",
                {key: round(value, 1) for key, value in figures[f"{name} {size}"].items()},
                flush=True,
            )
    return figures


def measured(bench: Bench, backlog: str, size: int, jobs_to_run: int) -> Figures:
    with bench.place(OURS) as (where, meter, log), playing(OURS, log, "produce", where) as producer:
        if backlog:
            write_backlog(where, backlog, size)
        with used(meter, jobs_to_run, "fill") as filling:
            seconds = producer.ask("bulk", jobs_to_run)["seconds"]
        with playing(OURS, log, "work", where, "10") as worker:
            before = worker.seconds
            with used(meter, jobs_to_run, "run") as running:
                worker.tell()
                wait_for(log, jobs_to_run, f"{jobs_to_run} runs beside {size} others")
                running["run client"] = (worker.seconds - before) * 1e6 / jobs_to_run
            runs = log.runs()
    rate = jobs_to_run / (runs[jobs_to_run - 1][1] - runs[0][1])
    return {"enqueue": jobs_to_run / seconds, "drain": rate} | filling | running


HEAD = """# What a job costs as queues grow

Made by `make bench-growth`: change nothing here by hand. {rounds} rounds, medians (one where the
backlog is above a million); {jobs:,} jobs enqueued and run beside the backlog. {facts}

The last column is the processor time of a job (client and server) beside the smallest backlog of its kind and beside
the largest one, as a ratio; the aim is at most {flat}.

![Jobs a second beside backlogs](charts/growth.svg)

| backlog | size | enqueued in bulk, /s | drained, /s | server, us | client, us | cost, largest : smallest |
|---|--:|--:|--:|--:|--:|--:|
"""


def write(path: Path, medians: Mapping[str, Figures], found: Mapping[str, str], chosen: argparse.Namespace) -> None:
    known = ", ".join(f"{name} {value}" for name, value in found.items())
    head = HEAD.format(rounds=chosen.rounds, jobs=chosen.jobs, facts=known, flat=FLAT)
    path.write_text(head + "\n".join(line(name, medians) for name in medians) + "\n")
    chart(path.parent / "charts" / "growth.svg", medians)


def line(name: str, medians: Mapping[str, Figures]) -> str:
    kind, size = name.rsplit(" ", 1)
    figures, ratio = medians[name], ""
    alike = [other for other in medians if other.rsplit(" ", 1)[0] == kind]
    if len(alike) > 1 and name == alike[-1]:
        ratio = f"{cost(medians[alike[-1]]) / cost(medians[alike[0]]):.2f}"
    rates = f"{figures['enqueue']:,.0f} | {figures['drain']:,.0f}"
    return f"| {kind} | {int(size):,} | {rates} | {figures['run server']:.1f} | {figures['run client']:.1f} | {ratio} |"


def cost(figures: Figures) -> float:
    return figures["run server"] + figures["run client"]


def chart(path: Path, medians: Mapping[str, Figures]) -> None:
    drawn = pygal.XY(title="Jobs a second, drained beside a backlog", logarithmic=False, width=760, height=400, js=[],
                     x_title="size of the backlog, as a power of ten", range=(0, None), explicit_size=True)  # fmt: skip
    for kind in dict.fromkeys(name.rsplit(" ", 1)[0] for name in medians if not name.startswith(NONE)):
        sizes = [name for name in medians if name.rsplit(" ", 1)[0] == kind]
        drawn.add(kind, [(len(name.rsplit(" ", 1)[1]) - 1, medians[name]["drain"]) for name in sizes])
    path.parent.mkdir(exist_ok=True)
    drawn.render_to_file(str(path))


if __name__ == "__main__":
    main()
