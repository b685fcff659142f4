"""What commands say: a table for people, plain lines for a pipe, JSON for programs."""

from __future__ import annotations

import importlib
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

import click
import orjson

from pgwerk.cli.exits import Exit
from pgwerk.errors import InvalidOption, MissingExtra, NotSerializable, one_line, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

NARROW = 100  # columns of a terminal up to which tables stand close
RIGID = 19  # characters of a column's cells up to which they are shown whole
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))

as_json = click.option("--json", "as_json", is_flag=True, help="for programs")


def say(text: str, *, as_json: bool, **facts: object) -> None:
    """What was done: a line for people, the facts for programs."""
    if as_json:
        say_json(facts)
    else:
        click.echo(printable(text))


def say_json(value: object) -> None:
    try:
        click.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    except TypeError as error:
        raise NotSerializable(f"that cannot be said in JSON: {one_line(error)}; leave out --json") from error


def ask(question: str, *, as_json: bool) -> None:
    """Ends the command unless the answer is yes. Ctrl-C is heard: the event loop, which has taken it for itself, waits
    for the answer too.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        click.echo(f"{printable(question)} [y/N]: ", nl=False, err=as_json)
        answer = sys.stdin.readline() if sys.stdin is not None else ""  # it was closed before we began
    finally:
        signal.signal(signal.SIGINT, before)
    if answer.strip().lower() not in ("y", "yes"):
        click.echo("nothing was done", err=True)
        raise SystemExit(Exit.No)


def arguments_of(text: str) -> dict[str, Any]:
    """Of a handler, as the command line says them: `args` or `kwargs`."""
    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise InvalidOption(f"arguments are a JSON object or list, got {text!r:.80}: {error}") from error
    match value:
        case dict():
            return {"kwargs": value}
        case list():
            return {"args": value}
        case _:
            raise InvalidOption(f"arguments are a JSON object or list, got {text!r:.80}")


def seconds(number: float, digits: int = 3) -> str:
    """As people say it; whole units are not rounded."""
    if number < 1:
        return _rounded(number * 1000, "ms", digits)
    unit, size = next((unit, size) for unit, size in _UNITS if number >= size)
    return _rounded(number / size, unit, digits)


def _rounded(number: float, unit: str, digits: int) -> str:
    return f"{number:.{max(digits, len(f'{number:.0f}'))}g} {unit}"


def since(moment: datetime | None) -> str | None:
    """For how long."""
    return seconds(max(0.0, (datetime.now(UTC) - moment).total_seconds()), 2) if moment else None


def number_of(jobs: int) -> str:
    return f"{jobs} job" if jobs == 1 else f"{jobs} jobs"


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # None: it was closed before we began


def show_fields(row: Mapping[str, Any]) -> None:
    """One thing, a line a field."""
    width = max(map(len, row))
    for name, value in row.items():
        click.echo(f"{name:<{width}}  {words(value)}")


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, none: str, cuts: bool = False) -> None:
    """`none` is what there is to say where there are no rows. `cuts`: a row of a table is one line of the terminal, and
    what is too long for it is cut; else it is folded.
    """
    if as_json:
        say_json(rows)
    elif not rows:
        click.echo(none)
    elif is_terminal(sys.stdout):
        _show_table(rows, cuts=cuts)
    else:
        _show_lines(rows)


def _show_table(rows: Sequence[Mapping[str, Any]], *, cuts: bool) -> None:
    console = _rich("console").Console(highlight=False, markup=False)
    padding = (0, 1 if console.width > NARROW else 0)
    box = _rich("box").SIMPLE_HEAD
    table = _rich("table").Table(box=box, header_style="bold", show_edge=False, pad_edge=False, padding=padding)
    cells = {name: [_short(row[name]) for row in rows] for name in rows[0]}
    for name, column in cells.items():
        table.add_column(name, no_wrap=max(map(len, column)) <= RIGID)
    text = partial(_rich("text").Text, no_wrap=cuts, overflow="ellipsis" if cuts else "fold")
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(text, row))
    console.print(table)


def _show_lines(rows: Sequence[Mapping[str, Any]]) -> None:
    """Columns by tabs, so that `cut` finds them."""
    for row in (dict(zip(rows[0], rows[0], strict=True)), *rows):
        click.echo("\t".join(" ".join(words(value).split()) for value in row.values()))


def _short(value: object) -> str:
    """A time without what goes without saying."""
    if not isinstance(value, datetime):
        return words(value)
    moment, now = _local(value), datetime.now().astimezone()
    if moment.date() == now.date():
        return f"{moment:%H:%M:%S}"
    return f"{moment:%m-%d %H:%M}" if moment.year == now.year else f"{moment:%Y-%m-%d}"


def _local(moment: datetime) -> datetime:
    """By the clock of whoever reads it; what lies beyond its calendar stays as it is."""
    try:
        return moment.astimezone()
    except (OverflowError, ValueError):
        return moment


def words(value: object) -> str:
    """For people a time is that of their clock."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            moment = _local(value) if is_terminal(sys.stdout) else value
            return moment.isoformat(sep=" ", timespec="seconds")
        case _:
            return printable(str(value))


def _rich(part: str) -> ModuleType:
    try:
        return importlib.import_module(f"rich.{part}")
    except ImportError as error:
        raise MissingExtra(
            'tables need a library that is not here; pip install "pgwerk[cli]", or say --json'
        ) from error
