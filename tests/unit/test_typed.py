"""Values that come back as what they were."""

from __future__ import annotations

import enum
import pickle
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, strategies as st

from pgwerk import JSONSerializer, NotSerializable, PickleSerializer, TypedJSONSerializer

TYPED = TypedJSONSerializer()


class Colour(enum.Enum):
    RED = "r"


class Level(enum.IntEnum):
    HIGH = 10


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Mode(enum.IntFlag):
    FAST = 1
    LOUD = 2


@dataclass(frozen=True)
class Point:
    x: int
    at: datetime


@dataclass
class Slotted:
    __slots__ = ("inner",)
    inner: Any


class Plain:
    def __repr__(self) -> str:
        return "<plain>"


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
zones = st.sampled_from([None, UTC, timezone(timedelta(hours=-3, minutes=-30))])
moments = st.one_of(st.datetimes(timezones=zones), st.times())
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), texts,
    moments.map(lambda moment: moment.replace(fold=0)), st.dates(), st.timedeltas(), st.uuids(),
    st.decimals(allow_nan=False), st.binary(max_size=5),
    st.sampled_from([Colour.RED, Level.HIGH, Point(1, datetime(2026, 1, 1, tzinfo=UTC))]),
)  # fmt: skip
keys = st.one_of(texts, st.just("$type"), st.integers(0, 9), st.uuids(), st.tuples(texts, st.integers(0, 9)))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3), st.tuples(inner, inner),
        st.builds(Slotted, inner), st.frozensets(st.uuids(), max_size=2), st.sets(st.dates(), max_size=2),
    ),
    max_leaves=8,
)  # fmt: skip


def _shape(value: Any) -> Any:
    """The value, and the types of everything in it."""
    if isinstance(value, dict):
        return dict, sorted(map(repr, [(_shape(key), _shape(item)) for key, item in value.items()]))
    if isinstance(value, list | tuple):
        return type(value), [_shape(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, value))
    if isinstance(value, Slotted):
        return Slotted, _shape(value.inner)
    return type(value), value


@given(values)
def test_whatever_goes_in_comes_back_as_it_was(value: Any) -> None:
    assert _shape(TYPED.loads(TYPED.dumps(value))) == _shape(value)


@given(values)
def test_it_is_a_fixed_point_of_what_the_database_makes_of_it(value: Any) -> None:
    text = TYPED.dumps(value)
    assert _shape(TYPED.loads(orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS))) == _shape(value)


@pytest.mark.parametrize("value", [Access.READ, Access.BOTH, Access(0), Mode.FAST | Mode.LOUD, Mode(8), ~Mode.FAST])
def test_flags_come_back_one_several_or_none(value: enum.Flag) -> None:
    assert _shape(TYPED.loads(TYPED.dumps({"how": value}))) == _shape({"how": value})


def test_one_flag_is_written_by_its_name() -> None:
    """As older versions read it."""
    assert orjson.loads(TYPED.dumps(Access.WRITE)) == {"$type": "enum", "value": [f"{__name__}:Access", "WRITE"]}


def test_what_json_knows_stays_plain() -> None:
    value = {"args": [1, "a", None, 2.5, [True]], "kwargs": {"to": {"x": "y"}}}
    assert orjson.loads(TYPED.dumps(value)) == value


def test_the_others_can_be_read_by_people() -> None:
    number = UUID("12345678123456781234567812345678")
    assert orjson.loads(TYPED.dumps([number, date(2026, 1, 2), time(3), Decimal("1.10")])) == [
        {"$type": "uuid", "value": str(number)},
        {"$type": "date", "value": "2026-01-02"},
        {"$type": "time", "value": "03:00:00"},
        {"$type": "decimal", "value": "1.10"},
    ]


REFUSED = [
    (Plain(), "a Plain has no form in typed JSON, got <plain>"),
    ([float("nan")], "JSON has no word for nan"),
    ({"a": "b\0"}, "Postgres takes no text with a NUL character, got 'b\\x00'"),
]


@pytest.mark.parametrize(("value", "words"), REFUSED)
def test_what_would_not_come_back_is_refused(value: Any, words: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        TYPED.dumps(value)
    assert str(caught.value) == words


def test_a_local_class_is_refused() -> None:
    @dataclass
    class Local:
        x: int

    with pytest.raises(NotSerializable, match="is local and could not be found again; make it a module-level class"):
        TYPED.dumps(Local(1))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"$type": "teapot", "value": 1}, "typed JSON knows no type 'teapot'; was it written by a newer version?"),
        ({"$type": "dataclass", "value": ["subprocess:Popen", {}]}, "subprocess:Popen is no dataclass"),
        ({"$type": "enum", "value": ["os:path", "join"]}, "os:path is not the class that it was"),
    ],
)
def test_a_row_makes_nothing_but_enums_and_dataclasses(value: Any, words: str) -> None:
    with pytest.raises(NotSerializable, match=words):
        TYPED.loads(orjson.dumps(value))


@given(values)
def test_pickles_come_back_too(value: Any) -> None:
    assert _shape(PickleSerializer().loads(PickleSerializer().dumps(value))) == _shape(value)


def test_a_pickle_is_a_text_in_the_database() -> None:
    text = orjson.loads(PickleSerializer().dumps({"a": 1}))
    assert text.startswith("pickle:")


def test_what_cannot_be_pickled_is_refused() -> None:
    with pytest.raises(NotSerializable, match=r"<function .* cannot be pickled: "):
        PickleSerializer().dumps(lambda: None)


@pytest.mark.parametrize("value", [{"args": [], "kwargs": {}}, "text", 1])
def test_only_what_was_pickled_is_unpickled(value: Any) -> None:
    with pytest.raises(NotSerializable, match="is not pickled; was it written by an app with another serializer"):
        PickleSerializer().loads(JSONSerializer().dumps(value))


def test_nothing_is_unpickled_unless_the_app_chose_it() -> None:
    text = orjson.dumps("pickle:" + pickle.dumps(1).hex())
    assert isinstance(TYPED.loads(text), str)
    assert isinstance(JSONSerializer().loads(text), str)


def test_only_allowed_classes_are_made_from_a_row_and_nothing_else_is_imported() -> None:
    guarded = TypedJSONSerializer(allow=[f"{__name__}.*"])
    assert guarded.loads(guarded.dumps(Colour.RED)) is Colour.RED
    unknown = b'{"$type": "enum", "value": ["antigravity:Flying", "UP"]}'
    with pytest.raises(NotSerializable, match="the class antigravity:Flying is not allowed here, only "):
        guarded.loads(unknown)
    assert "antigravity" not in sys.modules
    merely_imported = f'{{"$type": "enum", "value": ["{__name__}:enum.EnumCheck", "CONTINUOUS"]}}'
    assert TYPED.loads(merely_imported) is enum.CONTINUOUS
    with pytest.raises(NotSerializable, match="the class enum:EnumCheck is not allowed here"):
        guarded.loads(merely_imported)
