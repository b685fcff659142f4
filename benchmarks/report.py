"""RESULTS.md, and the charts beside it, from the medians of a run."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pygal
from burdened import KINDS
from pygal.style import Style
from systems import REQUIREMENTS, System
from trials import FEWEST_COUNTED

Figures = Mapping[str, float]
OURS = "pgwerk"
MIX = "drain, "
"""A figure of a mix of jobs with features."""

OUR_COLOUR, PEER_COLOUR, REDIS_COLOUR, LIMIT_COLOUR = "#1f6feb", "#8b949e", "#d29922", "#3fb950"


@dataclass(frozen=True)
class Column:
    title: str
    value: Callable[[Figures], float | None]
    more_is_better: bool = True
    decimals: int = 0


def figure(name: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.get(name)


def total(*names: str) -> Callable[[Figures], float | None]:
    return lambda figures: sum(figures[name] for name in names) if all(name in figures for name in names) else None


def ratio(name: str, of: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures[name] / figures[of] if figures.get(of) and name in figures else None


SPEED = (
    Column("one by one", figure("one")),
    Column("50 tasks", figure("tasks")),
    Column("bulk", figure("bulk")),
    Column("drain, 10 at once", figure("drain 10")),
    Column("drain, 100 at once", figure("drain 100")),
    Column("2 processes", figure("drain 2x10")),
    Column("4 processes", figure("drain 4x10")),
    Column("producer and worker", figure("together")),
)
SOON = (
    Column("p50", figure("latency p50"), more_is_better=False, decimals=1),
    Column("p95", figure("latency p95"), more_is_better=False, decimals=1),
    Column("p99", figure("latency p99"), more_is_better=False, decimals=1),
)
COSTS = (
    Column("client, enqueue", figure("fill client"), more_is_better=False),
    Column("server, enqueue", figure("fill server"), more_is_better=False),
    Column("client, run", figure("run client"), more_is_better=False),
    Column("server, run", figure("run server"), more_is_better=False),
    Column("all", total("fill client", "fill server", "run client", "run server"), more_is_better=False),
    Column("WAL, enqueue", figure("fill wal"), more_is_better=False),
    Column("WAL, run", figure("run wal"), more_is_better=False),
    Column("commits", figure("commits"), more_is_better=False, decimals=2),
    Column("statements", figure("statements"), more_is_better=False, decimals=2),
    Column("on disk", figure("bytes"), more_is_better=False),
    Column("producer, MiB", lambda figures: mebibytes(figures.get("producer memory")), more_is_better=False),
    Column("worker, MiB", lambda figures: mebibytes(figures.get("worker memory")), more_is_better=False),
)
BESIDE = (
    Column("nothing", figure("beside nothing")),
    *(Column(kind, figure(f"beside {kind}")) for kind in KINDS),
    *(Column(f"{kind} : nothing", ratio(f"beside {kind}", "beside nothing"), decimals=2) for kind in KINDS),
)
HELD = (
    Column("first tenth", figure("held, first")),
    Column("last tenth", figure("held, last")),
    Column("last : first", ratio("held, last", "held, first"), decimals=2),
)
CHARTS = {
    "drain": ("Jobs a second, one worker process, 10 at once", SPEED[3]),
    "enqueue": ("Jobs a second, enqueued one by one", SPEED[0]),
    "tasks": ("Jobs a second, enqueued by 50 tasks at once", SPEED[1]),
    "together": ("Jobs a second, producer and worker together", SPEED[7]),
}

HEAD = """# pgwerk beside its peers

Made by `make bench-peers`: change nothing here by hand. {rounds} rounds, in each of which every system takes its turn
at every trial; a figure is the median. The best figure of a column is bold, whoever has it; what is no queue but the
limit of one stands in italics and does not compete.

{facts}

A system is run as its documentation advises, with its default durability; what was chosen stands at the head of its
adapter in `benchmarks/peers/`. Those on Redis keep their jobs in memory and write a snapshot now and then: what they
are faster at, they are faster at by losing it in a crash. huey and celery forget a job before it has run. The job is a
function that leaves 16 bytes in a file of the memory. In the charts ours is blue, what lives on Postgres grey, what
lives on Redis yellow, and the limit green. Postgres and Redis are both reached by a socket of the file system.
"""

ABOUT_SPEED = """Bulk: 10,000 jobs at once, of five times after a first the median; where the first takes longer than
2.5 seconds it is the only one, with as many jobs as last so long.
"""

ABOUT_PICK_UP = """From the call that enqueues a job to the first line of its handler, one job every 20 ms; percentiles
of the jobs of all rounds together. An app of pgwerk without a pool keeps its connection for 200 ms: after a longer
pause it first opens one.
"""

ABOUT_COSTS = """Of a job, enqueued in bulk and run by one process: microseconds of the processors, bytes of WAL, bytes
that tables and indexes have grown by, commits in its database (those of the producer, and of the benchmark's own
questions, are some), statements that the worker sends (BEGIN and COMMIT are some, and those of its start); and peak
memory of the producer of the first bulk above, and of the worker. What runs less than {fewest} jobs in the time that a
drain is given has no figures but of its memory.
"""

ABOUT_BACKLOGS = """Drained by one process, 10 at once, with nothing else in the database, and beside {backlog:,} other
jobs of one kind: finished, for next month, or queued behind with a lower priority. These were written by SQL and
vacuumed. A drain that does not end within ten seconds is counted until then. Rounds: {backlog_rounds}.
"""

ABOUT_SNAPSHOT = """Another session has held a snapshot since before the first job was enqueued, so nothing that was
consumed can be vacuumed; as many jobs as last about four seconds, at most 200,000. Rounds: {deep_rounds}.
"""

ABOUT_FEATURES = """pgwerk's own, by one process, 10 at once, timed by the server's clock. Callbacks are not counted as
jobs; there are 2,000 groups. Rounds: {deep_rounds}.
"""


def mebibytes(size: float | None) -> float | None:
    return None if size is None else size / 2**20


def write(
    path: Path, systems: Sequence[System], figures: Mapping[str, Figures], facts: Mapping[str, str],
    chosen: argparse.Namespace, errors: Mapping[str, str],
) -> None:  # fmt: skip
    known = vars(chosen) | {"facts": ", ".join(f"{name} {value}" for name, value in facts.items())}
    parts = [
        HEAD.format(**known),
        *(f"![{title}](charts/{name}.svg)\n" for name, (title, _) in CHARTS.items()),
        *section("Speed, jobs a second", ABOUT_SPEED, table(systems, figures, SPEED)),
        *section("Pick-up by an idle worker, milliseconds", ABOUT_PICK_UP, table(systems, figures, SOON)),
        *section("Costs", ABOUT_COSTS.format(fewest=FEWEST_COUNTED), table(systems, figures, COSTS)),
        *section("Beside backlogs, jobs a second", ABOUT_BACKLOGS.format(**known), table(systems, figures, BESIDE)),
        *section("Under a held snapshot, jobs a second", ABOUT_SNAPSHOT.format(**known), table(systems, figures, HELD)),
        *section("What features cost", ABOUT_FEATURES.format(**known), features(figures.get(OURS, {}))),
        "## Versions\n", versions(systems), *remarks(systems, figures, errors),
    ]  # fmt: skip
    path.write_text("\n".join(parts))
    for name, (title, column) in CHARTS.items():
        chart(path.parent / "charts" / f"{name}.svg", title, systems, figures, column)


def section(title: str, about: str, table: str) -> list[str]:
    """Nothing, where nothing was measured."""
    has_rows = table.count("\n") > 2
    return [f"## {title}\n", *([about] if about else []), table] if has_rows else []


def table(systems: Sequence[System], figures: Mapping[str, Figures], columns: Sequence[Column]) -> str:
    shown = [system for system in systems if any(column.value(figures[system.name]) is not None for column in columns)]
    best = {column.title: best_of(shown, figures, column) for column in columns}
    lines = [row("", [column.title for column in columns]), "|---|" + "--:|" * len(columns)]
    for system in shown:
        cells = [cell(system, column, figures[system.name], best[column.title]) for column in columns]
        lines.append(row(f"*{system.name}*" if system.is_limit else system.name, cells))
    return "\n".join(lines) + "\n"


def features(ours: Figures) -> str:
    """A row for each mix of jobs, as `bench_features` names them."""
    rates = {name.removeprefix(MIX): rate for name, rate in ours.items() if name.startswith(MIX)}
    lines = [row("", ["jobs a second", "of plain"]), "|---|--:|--:|"]
    lines += [row(name, [f"{rate:,.0f}", f"{rate / rates['plain']:.2f}"]) for name, rate in rates.items()]
    return "\n".join(lines) + "\n"


def row(head: str, cells: Sequence[str]) -> str:
    return f"| {head} | " + " | ".join(cells) + " |"


def best_of(systems: Sequence[System], figures: Mapping[str, Figures], column: Column) -> float | None:
    """Where a figure is 0 (a Redis writes no WAL), there is nothing to win."""
    values = [column.value(figures[system.name]) for system in systems if not system.is_limit]
    known = [value for value in values if value]
    return (max if column.more_is_better else min)(known) if known else None


def cell(system: System, column: Column, figures: Figures, best: float | None) -> str:
    value = column.value(figures)
    if value is None or (not value and system.on_redis):
        return "-"
    text = f"{value:,.{column.decimals}f}"
    return f"*{text}*" if system.is_limit else f"**{text}**" if value == best else text


def versions(systems: Sequence[System]) -> str:
    used = {system.environment for system in systems} - {""}
    return "\n".join(f"- {', '.join(REQUIREMENTS[name])}" for name in sorted(used)) + "\n"


def remarks(systems: Sequence[System], figures: Mapping[str, Figures], errors: Mapping[str, str]) -> list[str]:
    lines = [f"- {system.name}: {system.remark}" for system in systems if system.remark]
    for system in systems:
        runs = max((value for name, value in figures[system.name].items() if name.endswith(" runs")), default=1.0)
        if runs > 1:
            lines.append(f"- {system.name} ran jobs more than once: {runs:.3f} runs a job in its worst drain")
    lines += [f"- {what} could not be measured: {error}" for what, error in errors.items()]
    return ["## Remarks\n", "\n".join(lines) + "\n"] if lines else []


def chart(
    path: Path, title: str, systems: Sequence[System], figures: Mapping[str, Figures], column: Column
) -> None:  # fmt: skip
    found = [(system, column.value(figures[system.name])) for system in systems]
    bars = sorted(((value, system) for system, value in found if value), key=lambda bar: bar[0])
    style = Style(background="white", plot_background="white", font_family="sans-serif", label_font_size=11,
                  value_font_size=11, title_font_size=15, colors=(PEER_COLOUR,))  # fmt: skip
    drawn = pygal.HorizontalBar(
        title=title, style=style, show_legend=False, print_values=True, width=760, height=90 + 26 * len(bars), js=[],
        value_formatter=lambda value: f"{value:,.0f}", spacing=6, margin=12, show_x_labels=False, explicit_size=True,
        x_labels=[system.name for _, system in bars],
    )  # fmt: skip
    drawn.add("", [{"value": value, "color": colour(system)} for value, system in bars])
    path.parent.mkdir(exist_ok=True)
    drawn.render_to_file(str(path))


def colour(system: System) -> str:
    if system.is_limit:
        return LIMIT_COLOUR
    if not system.environment:
        return OUR_COLOUR
    return REDIS_COLOUR if system.on_redis else PEER_COLOUR
