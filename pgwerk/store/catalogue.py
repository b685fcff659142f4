"""What every catalogue's class does alike: name a statement, bind its values, say how its rows are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from pgwerk.sql import statements
from pgwerk.wire import Call

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Catalogue:
    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._statements = statements(schema)

    @property
    def channel(self) -> str:
        """One channel a schema, and named like it: short enough, and as unique."""
        return self.schema

    def _call(self, statement: str, read: Callable[[list[Any]], T], **values: object) -> Call[T]:
        found = self._statements[statement]
        return Call(found, found.bind(values), read)


def as_json(rows: object) -> bytes:
    """Many rows travel as one text: the fastest way from Python, and any shape of row can go."""
    return orjson.dumps(rows)


def every(rows: list[T]) -> list[T]:
    return rows


def job_ids(rows: list[Any]) -> list[int]:
    return [row["job_id"] for row in rows]


def nothing(_: list[Any]) -> None:
    return None
