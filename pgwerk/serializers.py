"""How arguments and results become JSON and come back."""

from __future__ import annotations

import base64
import dataclasses
import math
import pickle
import re
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import orjson

from pgwerk.errors import NotSerializable, brief

LARGEST = 128 * 2**20  # bytes of JSON; twice as much and Postgres has no room for it, or takes longer than it is given

# jsonb rewrites 1e16 as a whole number, and it would come back as one; 10000000000000000.0 stays what it is
_EXPONENT = re.compile(rb"\de\+\d")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|\d(?:\.\d+)?e\+\d+')


@runtime_checkable
class Serializer(Protocol):
    """Payloads and results are stored as jsonb, so both directions speak JSON text."""

    def dumps(self, value: Any) -> bytes:
        """Raises `NotSerializable` for what would not come back as it was."""

    def loads(self, text: str | bytes) -> Any: ...


def bounded(text: bytes, what: str) -> bytes:
    """Raises `NotSerializable` for more than the database takes in good time."""
    if len(text) > LARGEST:
        raise NotSerializable(
            f"{what} may take {LARGEST / 2**20:g} MiB as JSON, got {len(text) / 2**20:.1f} MiB; keep them elsewhere, "
            "and pass on where they are"
        )
    return text


class JSONSerializer:
    """Plain JSON. Datetimes, UUIDs, enums, dataclasses and Decimals go in as their JSON form and come back as it."""

    def dumps(self, value: Any) -> bytes:
        try:
            text = orjson.dumps(value, default=_as_json, option=_OPTIONS)
        except TypeError as error:
            words = str(error.__cause__ or error)
            raise NotSerializable(words[:1].lower() + words[1:]) from error
        return text if _is_plain(text) else _looked_at(text, value)

    def loads(self, text: str | bytes) -> Any:
        return orjson.loads(text)


# orjson itself crashes the whole process on a time zone of the user's that raises, and drops an offset's seconds
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME


def plain_json(value: object) -> bytes | None:
    """What `JSONSerializer` makes of it; None where that takes a closer look."""
    try:
        text = orjson.dumps(value, default=_as_json, option=_OPTIONS)
    except TypeError:
        return None
    return text if _is_plain(text) else None


def _is_plain(text: bytes) -> bool:
    return text.find(b"e+") < 0 and text.find(b"null") < 0 and text.find(b"\\u0000") < 0  # `in` takes twice as long


def _looked_at(text: bytes, value: Any) -> bytes:
    if b"e+" in text and _EXPONENT.search(text):
        text = _TOKEN.sub(_without_exponent, text)
    # Only a text that holds one of these can hide what JSON, or Postgres, has no word for.
    if b"null" in text or b"\\u0000" in text:
        _check(value)
    return text


def _as_json(value: object) -> object:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a {type(value).__qualname__} has no form in JSON, got {brief(value)}")


def _without_exponent(token: re.Match[bytes]) -> bytes:
    return token[0] if token[0].startswith(b'"') else b"%.1f" % float(token[0])


def _check(value: Any) -> None:
    match value:
        case Enum():  # it may be a text or a number too
            _check(value.value)
        case None | str() | int() | float():
            _check_leaf(value)
        case dict():
            for key, item in value.items():
                _check(key)
                _check(item)
        case list() | tuple():
            for item in value:
                _check(item)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for field in dataclasses.fields(value):
                _check(getattr(value, field.name))


def _check_leaf(value: str | float | None) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise NotSerializable(f"JSON has no word for {value}")
    if isinstance(value, str) and "\0" in value:
        raise NotSerializable(f"Postgres takes no text with a NUL character, got {brief(value)}")


class PickleSerializer:
    """Whatever `pickle` takes, as a text in the database.

    Unpickling runs code: whoever can write to the table can run anything in the workers. Use it only where nobody else
    writes there, and where nothing reads arguments and results but Python.
    """

    def dumps(self, value: Any) -> bytes:
        try:
            pickled = pickle.dumps(value)
        except Exception as error:
            raise NotSerializable(f"{brief(value)} cannot be pickled: {error}") from error
        return orjson.dumps(_PICKLED + base64.b64encode(pickled).decode())

    def loads(self, text: str | bytes) -> Any:
        value = orjson.loads(text)
        if not isinstance(value, str) or not value.startswith(_PICKLED):
            raise NotSerializable(f"{brief(value)} is not pickled; was it written by an app with another serializer?")
        return pickle.loads(base64.b64decode(value.removeprefix(_PICKLED)))  # noqa: S301 - the user's choice


_PICKLED = "pickle:"
