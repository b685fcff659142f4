"""The catalogue of statements: every word of SQL that the engine sends stands in a file beside this one.

The files are valid as they stand (psql reads them, `:name` is its variable); two things change on the way to
the server: `:name` becomes `$1`, and the schema `pgwerk` becomes the app's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING
from zlib import crc32

from pgwerk.errors import InvalidOption, brief

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CATALOGUES = (
    "schema", "session", "enqueue", "exchange", "ending", "maintenance", "workers", "control", "overview", "schedules",
    "doctor",
)  # fmt: skip
PINNED = ("exchange", "ending", "maintenance", "control", "overview")
# Nothing that frames a transaction matters to these: they read no rows of jobs and wait for nobody.
BARE = ("enqueue_one", "enqueue_now")

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
# Comments are for the reader of the file; the server would parse them with every unprepared statement.
_REMARK = re.compile(r"^[ \t]*--(?! name: ).*\n", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
_SCHEMA = re.compile(r"\bpgwerk\b")
_LONGEST_IDENTIFIER = 63
_UNFIT = re.compile(r"^pg_|[\x00-\x1f'\"\\\ud800-\udfff]")


@dataclass(frozen=True)
class Statement:
    name: str
    text: str
    parameters: tuple[str, ...]
    is_pinned: bool
    """What workers or people ask all the time, for which the planner is held to index scans."""

    @cached_property
    def wire(self) -> bytes:
        return self.text.encode()

    @cached_property
    def identity(self) -> bytes:
        """Its name on a connection that others use too, and other schemas: short, and unlike theirs."""
        return f"pgwerk_{self.name}_{crc32(self.wire):08x}".encode()

    @cached_property
    def is_bare(self) -> bool:
        """It may be sent by itself, as the transaction that a statement is anyway."""
        return self.name in BARE

    @property
    def explained(self) -> Statement:
        """The question how the server would do it."""
        return replace(self, name=f"explain_{self.name}", text=f"explain (format json) {self.text}")

    def bind(self, values: Mapping[str, object]) -> list[object]:
        return [values[name] for name in self.parameters]


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    text: str


def check_schema(schema: str) -> str:
    """The name as given; refuses what could not stand in a statement, quoted or as a text."""
    length = len(schema.encode("utf-8", "surrogatepass"))
    if not 1 <= length <= _LONGEST_IDENTIFIER or _UNFIT.search(schema):
        raise InvalidOption(
            f"a schema's name has 1 to {_LONGEST_IDENTIFIER} bytes without quotes, backslashes or control "
            f"characters, and does not start with pg_, got {brief(schema)}"
        )
    return schema


@cache
def statements(schema: str) -> dict[str, Statement]:
    """Every statement by name, for this schema."""
    found: dict[str, Statement] = {}
    for catalogue in CATALOGUES:
        for statement in _parse(catalogue, schema):
            if statement.name in found:
                raise AssertionError(f"two statements are named {statement.name}")
            found[statement.name] = statement
    return found


@cache
def migrations(schema: str) -> tuple[Migration, ...]:
    folder = resources.files(__package__) / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple(
        Migration(int(name[:4]), name.removesuffix(".sql"), in_schema(_read(f"migrations/{name}"), schema))
        for name in names
    )


def in_schema(text: str, schema: str) -> str:
    return _SCHEMA.sub(lambda _: f'"{schema}"', text)


def _read(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _parse(catalogue: str, schema: str) -> Iterator[Statement]:
    _, *pieces = _NAME.split(_REMARK.sub("", _read(f"{catalogue}.sql")))
    for name, body in zip(pieces[::2], pieces[1::2], strict=True):
        yield _statement(name, body.strip().removesuffix(";"), schema, is_pinned=catalogue in PINNED)


def _statement(name: str, body: str, schema: str, *, is_pinned: bool) -> Statement:
    order: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in order:
            order.append(match[1])
        return f"${order.index(match[1]) + 1}"

    text = in_schema(_PARAMETER.sub(number, body), schema)  # last: a schema's name may look like a parameter
    return Statement(name, text, tuple(order), is_pinned)
