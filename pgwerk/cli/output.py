"""What commands say: a table for people, plain lines for a pipe, JSON for programs."""

from __future__ import annotations

import importlib
import signal
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import orjson

from pgwerk.errors import InvalidOption, MissingExtra, NotSerializable, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

NARROW = 100  # columns of a terminal up to which tables stand close
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))

as_json = click.option("--json", "as_json", is_flag=True, help="for programs")


def say(text: str, *, as_json: bool, **facts: object) -> None:
    """What was done: a line for people, the facts for programs."""
    if as_json:
        say_json(facts)
    else:
        click.echo(text)


def say_json(value: object) -> None:
    try:
        click.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    except TypeError as error:
        raise NotSerializable(f"that cannot be said in JSON: {one_line(error)}; leave out --json") from error


def ask(question: str, *, as_json: bool) -> None:
    """Raises `click.Abort` unless the answer is yes. Ctrl-C is heard: the event loop, which has taken it for itself,
    waits for the answer too.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        click.echo(f"{question} [y/N]: ", nl=False, err=as_json)
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)
    if answer.strip().lower() not in ("y", "yes"):
        raise click.Abort


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


def seconds(number: float) -> str:
    """As people say it, to three digits."""
    if number < 1:
        return f"{number * 1000:.3g} ms"
    unit, size = next((unit, size) for unit, size in _UNITS if number >= size)
    return f"{number / size:.3g} {unit}"


def is_terminal() -> bool:
    return sys.stdout.isatty()


def show_fields(row: Mapping[str, Any]) -> None:
    """One thing, a line a field."""
    width = max(map(len, row))
    for name, value in row.items():
        click.echo(f"{name:<{width}}  {words(value)}")


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, none: str) -> None:
    """`none` is what there is to say where there are no rows."""
    if as_json:
        say_json(rows)
    elif not rows:
        click.echo(none)
    elif is_terminal():
        _show_table(rows)
    else:
        _show_lines(rows)


def _show_table(rows: Sequence[Mapping[str, Any]]) -> None:
    console = _rich("console").Console(highlight=False, markup=False)
    padding = (0, 1 if console.width > NARROW else 0)
    box = _rich("box").SIMPLE_HEAD
    table = _rich("table").Table(*rows[0], box=box, header_style="bold", pad_edge=False, padding=padding)
    for row in rows:
        table.add_row(*map(_short, row.values()))
    console.print(table)


def _show_lines(rows: Sequence[Mapping[str, Any]]) -> None:
    """Columns by tabs, so that `cut` finds them."""
    for row in (dict(zip(rows[0], rows[0], strict=True)), *rows):
        click.echo("\t".join(" ".join(words(value).split()) for value in row.values()))


def _short(value: object) -> str:
    """A time is that of the reader's clock."""
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else words(value)


def words(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case _:
            return str(value)


def _rich(part: str) -> ModuleType:
    try:
        return importlib.import_module(f"rich.{part}")
    except ImportError as error:
        raise MissingExtra(
            'tables need a library that is not here; pip install "pgwerk[cli]", or say --json'
        ) from error
