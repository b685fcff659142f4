"""Values that nobody expects: of every type, at the edge of every range, and with a mind of their own."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from pgwerk import Callback, Dependency, EnqueueParams, JobStatus, Repeat, Retry
from tests import handlers

INJECTIONS = [
    "'; drop table job; --", '"; drop table job; --', "') ; delete from job; --", "\\'; select 1; --", "$1", "$$; --",
    "%s", "%(key)s", "{}", "{0}", ":queue", ":queue::text", "/*", "*/", "--", "E'\\''", "a\nb", "'", '"', "\\", "`",
    "' or '1'='1", "1; select pg_sleep(3600)", "pgwerk.job", "\u02bc; drop table job", "ready x'; notify y", "%", "_",
    "*", ";",
]  # fmt: skip


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Mapping(dict[Any, Any]):
    pass


class Sequence(list[Any]):
    pass


class Word(StrEnum):
    ONE = "default"


class Number(IntEnum):
    ONE = 1


class Nameless:
    def __repr__(self) -> str:
        raise RuntimeError("it has no repr")


class Unequal:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("it equals nothing")


class Undecided:
    def __bool__(self) -> bool:
        raise RuntimeError("it is neither")


class Unzoned(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise RuntimeError("it has no offset")

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "nowhere"


class Unhashable:
    """Can be called, and nothing else."""

    __hash__ = None  # type: ignore[assignment]
    __name__ = __qualname__ = "Unhashable"

    def __call__(self) -> None: ...


def nested(kind: str, depth: int) -> Any:
    value: Any = kind
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ZONES: list[tzinfo] = [timezone(timedelta(hours=hours)) for hours in (-23, 23)] + [
    timezone(timedelta(hours=23, seconds=59)),
    Unzoned(),
]
MOMENTS = [
    NOON.replace(tzinfo=None), datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), NOON,
    *[moment.replace(tzinfo=zone) for moment in (datetime.min, datetime.max, NOON) for zone in ZONES],  # noqa: DTZ901
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2**15, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, 10**5000, -(10**5000), 0.0, -0.0, 0.5, 1e-300,
    1e300, math.nan, math.inf, -math.inf, True, False, Whole(3), Real(2.5), Number.ONE, Decimal("1.5"), Decimal("NaN"),
    Fraction(1, 3), 1j,
]  # fmt: skip
TEXTS = [
    "", "a", "\0", "a\0b", "\ud800", "x" * 255, "x" * 256, "x" * 100_000, "ü" * 255, Text("text"), Text("\0"), Word.ONE,
    b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), "os.getpid", "a." * 2000 + "b", "__main__.x", ".", "a.b",
    *INJECTIONS,
]  # fmt: skip
SPANS = [timedelta(1), timedelta(-1), timedelta.max, timedelta.min, timedelta(0)]
SEVERAL = [
    [], [1], [[]], (), (1,), {}, {"a": 1}, {1: 2}, {"a": math.nan}, {"\0": 1}, {"a": "\0"}, {"\ud800": 1}, set(),
    frozenset([1]), range(3), Mapping(a=1), Sequence([1]), nested("list", 300), nested("dict", 300),
    nested("list", 50_000), nested("dict", 50_000), endless(),
]  # fmt: skip
STRANGERS = [
    None, object(), object, type, ..., NotImplemented, asyncio, len, print, handlers.noop, handlers.remember, date.max,
    lambda: None, Nameless(), Unequal(), Undecided(), Unhashable(), Retry(2), Repeat(1), Callback("a.b"), Dependency(1),
    EnqueueParams(handlers.noop), JobStatus.Failed,
]  # fmt: skip
ODD: list[Any] = [*NUMBERS, *TEXTS, *SPANS, *MOMENTS, *SEVERAL, *STRANGERS]

GROWN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=5,
)
"""Values that grow by chance."""
