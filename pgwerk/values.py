"""How values travel to the server and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from psycopg import pq
from psycopg.adapt import AdaptersMap, Loader
from psycopg.types.datetime import TimestamptzBinaryLoader
from psycopg.types.string import StrDumperUnknown

if TYPE_CHECKING:
    from psycopg.abc import Buffer


class _RawJson(Loader):
    """JSON stays text: what it means is the app's serializer's business."""

    format = pq.Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)[1:]  # without the version of the format


class _Reading:
    """Whatever the program has registered with psycopg for itself: times are in UTC."""

    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_loader("jsonb", _RawJson)
    adapters.register_dumper(str, StrDumperUnknown)  # the statement says what a text is
    connection = None


READING = _Reading()


_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class _AnyMoment(TimestamptzBinaryLoader):
    """A time that Python has no word for, infinity and the years before 1 and after 9999, is the nearest that it has:
    one that somebody wrote by hand must not keep a worker from the rows beside it.
    """

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except psycopg.DataError:
            return _FIRST if bytes(data)[0] & 0x80 else _LAST  # its sign


class _Patient:
    adapters = AdaptersMap(READING.adapters)
    adapters.register_loader("timestamptz", _AnyMoment)
    connection = None


PATIENT = _Patient()


def as_text(value: object) -> str | None:
    wired = as_wire(value)
    return None if wired is None else wired.decode()


def as_wire(value: object) -> bytes | None:
    match value:
        case None | bytes():
            return value
        case bool():
            return b"true" if value else b"false"
        case str():  # an enum's own words are its name
            return value.encode()
        case int():
            return b"%d" % value
        case list():
            return b"{%s}" % b",".join(b"%d" % number for number in value)
        case _:
            return str(value).encode()
