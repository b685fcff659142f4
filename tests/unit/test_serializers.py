"""What goes in as JSON and comes back."""

from __future__ import annotations

import enum
import math
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from pgwerk import JSONSerializer, NotSerializable, Serializer
from pgwerk.errors import WerkError

serializer = JSONSerializer()

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


class Colour(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    NUL = "a\0b"


class Unstorable(enum.Enum):
    NUL = "a\0b"
    NOT_A_NUMBER = math.nan


@dataclass
class Point:
    x: float
    label: str = ""


class Opaque:
    def __repr__(self) -> str:
        return "<opaque>"


@given(values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = serializer.loads(serializer.dumps(value))
    assert back == value
    assert _types(back) == _types(value)


def _types(value: Any) -> Any:
    match value:
        case dict():
            return {key: _types(item) for key, item in value.items()}
        case list():
            return [_types(item) for item in value]
        case _:
            return type(value)


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ("123", "123"),
        (123, 123),
        ("", ""),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        ("\\u0000", "\\u0000"),  # six characters, none of them a NUL
        ("null", "null"),
        ([None], [None]),
        ((1, 2), [1, 2]),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Point(1.5, "a"), {"x": 1.5, "label": "a"}),
    ],
)
def test_what_goes_in_and_as_what_it_comes_back(value: Any, back: Any) -> None:
    found = serializer.loads(serializer.dumps(value))
    assert (found, type(found)) == (back, type(back))


@pytest.mark.parametrize(
    ("number", "text"), [(1e16, b"1e+16"), (-1.5e300, b"-1.5e+300"), (1e15, b"1000000000000000.0")]
)
def test_a_large_float_is_known_by_the_e_plus_of_orjson(number: float, text: bytes) -> None:
    """Its versions before 3.11.7 wrote 1e16."""
    assert orjson.dumps(number) == text


@pytest.mark.parametrize("number", [1e16, -1.5e300, 2.0**1023])
def test_a_large_float_is_written_as_jsonb_keeps_it(number: float) -> None:
    assert serializer.dumps([number]) == b"[%.1f]" % number


REFUSED = {
    "nan": (math.nan, "JSON has no word for nan"),
    "inf": (math.inf, "JSON has no word for inf"),
    "minus inf": (-math.inf, "JSON has no word for -inf"),
    "nan, deep": ({"a": [1, (math.nan,)]}, "JSON has no word for nan"),
    "nan in a dataclass": (Point(math.nan), "JSON has no word for nan"),
    "nan in an enum": (Unstorable.NOT_A_NUMBER, "JSON has no word for nan"),
    "NUL": ("a\0b", r"NUL character, got 'a\x00b'"),
    "NUL in a key": ({"a\0": 1}, "NUL character"),
    "NUL, deep": ([{"a": ["\0"]}], "NUL character"),
    "NUL in a dataclass": (Point(1, "\0"), "NUL character"),
    "NUL in a text enum": (Word.NUL, "NUL character"),
    "NUL in an enum": (Unstorable.NUL, "NUL character"),
    "half a surrogate pair": ("\ud800", "surrogates"),
    "half a surrogate pair in a key": ({"\udfff": 1}, "surrogates"),
    "more than 64 bits": (2**64, "64-bit"),
    "less than 64 bits": (-(2**63) - 1, "64-bit"),
    "a key that is no text": ({1: "a"}, "dict key must be str"),
    "bytes": (b"raw", "bytes has no form in JSON, got b'raw'"),
    "a set": ({1}, "set has no form in JSON, got {1}"),
    "an object": (Opaque(), "Opaque has no form in JSON, got <opaque>"),
    "an object, deep": ({"a": [Opaque()]}, "Opaque has no form in JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused(name: str) -> None:
    value, words = REFUSED[name]
    with pytest.raises(NotSerializable) as caught:
        serializer.dumps(value)
    assert words in str(caught.value)


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotSerializable, match="recursion"):
        serializer.dumps(endless)


def test_the_refusal_is_one_of_ours_and_a_type_error() -> None:
    assert issubclass(NotSerializable, WerkError)
    assert issubclass(NotSerializable, TypeError)


@given(st.text(st.characters(exclude_categories=())))
def test_a_text_is_either_stored_whole_or_refused(text: str) -> None:
    storable = "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    try:
        stored = serializer.loads(serializer.dumps(text))
    except NotSerializable:
        assert not storable
    else:
        assert storable
        assert stored == text


def test_whoever_speaks_json_is_a_serializer() -> None:
    assert isinstance(serializer, Serializer)
    assert not isinstance(object(), Serializer)
