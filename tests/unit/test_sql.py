"""The catalogue: files of SQL that become statements."""

from __future__ import annotations

import re

import pytest

from pgwerk import InvalidOption
from pgwerk.errors import WerkError
from pgwerk.sql import (
    CATALOGUES,
    PINNED,
    Statement,
    _parse,
    _statement,
    check_schema,
    in_schema,
    migrations,
    statements,
)

ODD = [
    "jobs", "My Schema", "größe", "日本", "a-b", "pgwerk", "my pgwerk", "$1", "a.b", "%s", "{x}", "a;b", "--", "a--b",
    "/*", ":name", "x :queue", "a::b", "_g<0>", "s" * 63,
]  # fmt: skip


def _made(body: str) -> Statement:
    return _statement("name", body, "pgwerk", is_pinned=False)


@pytest.mark.parametrize(
    ("body", "text", "parameters"),
    [
        ("select 1", "select 1", ()),
        ("select :a", "select $1", ("a",)),
        ("select :a, :b, :a", "select $1, $2, $1", ("a", "b")),
        ("select :b::bigint, :a::text", "select $1::bigint, $2::text", ("b", "a")),
        ("select x::bigint, '{}'::json", "select x::bigint, '{}'::json", ()),
        ("select any (:ids::bigint[])", "select any ($1::bigint[])", ("ids",)),
        ("select (:a)::text::json", "select ($1)::text::json", ("a",)),
        ("select :long_name", "select $1", ("long_name",)),
        ("select '12:30'", "select '12:30'", ()),
    ],
)
def test_parameters_are_numbered_and_casts_left_alone(body: str, text: str, parameters: tuple[str, ...]) -> None:
    made = _made(body)
    assert (made.text, made.parameters) == (text, parameters)


def test_values_are_bound_in_the_order_of_the_numbers() -> None:
    assert _made("select :b, :a, :b").bind({"a": 1, "b": 2, "unused": 3}) == [2, 1]


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        _made("select :a").bind({})


@pytest.mark.parametrize("schema", ODD)
def test_the_schema_is_replaced_and_nothing_else(schema: str) -> None:
    ours, theirs = statements("pgwerk"), statements(schema)
    assert {name: _with(each.text, schema) for name, each in ours.items()} == {
        name: each.text for name, each in theirs.items()
    }
    assert [each.parameters for each in ours.values()] == [each.parameters for each in theirs.values()]


def _with(text: str, schema: str) -> str:
    return text.replace('"pgwerk"', f'"{schema}"')


def test_the_schema_is_quoted_wherever_it_stands() -> None:
    assert in_schema("select pgwerk.f(), 'x' from pgwerk.job", "a b") == """select "a b".f(), 'x' from "a b".job"""


def test_a_longer_word_is_not_the_schema() -> None:
    assert in_schema("pgwerks my_pgwerk pgwerk_2", "x") == "pgwerks my_pgwerk pgwerk_2"


@pytest.mark.parametrize("schema", ODD)
def test_a_schema_may_be_called_anything_that_can_be_quoted(schema: str) -> None:
    assert check_schema(schema) == schema


@pytest.mark.parametrize(
    "schema",
    ["", "s" * 64, "ü" * 32, 'a"b', "a'b", "a\\b", "a\0b", "a\nb", "a\tb", "\x1f", "\ud800", "pg_jobs"],
)
def test_a_schema_that_cannot_be_quoted_is_refused(schema: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        check_schema(schema)
    assert str(caught.value) == (
        "a schema's name has 1 to 63 bytes without quotes, backslashes or control characters, "
        f"and does not start with pg_, got {schema!r}"
    )
    assert isinstance(caught.value, WerkError)


@pytest.mark.parametrize("schema", ["a\x85b", "a\u2028b", "a\u2029b", "a\x7fb"])
def test_a_schema_with_an_odd_line_end_is_kept_or_refused(schema: str) -> None:
    try:
        check_schema(schema)
    except InvalidOption:
        return
    assert f'"{schema}"' in statements(schema)["get_jobs"].text


def test_no_two_statements_have_one_name() -> None:
    names = [statement.name for catalogue in CATALOGUES for statement in _parse(catalogue, "pgwerk")]
    assert len(names) == len(set(names)) == len(statements("pgwerk"))


def test_two_statements_of_one_name_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgwerk.sql.CATALOGUES", ("control", "control"))
    with pytest.raises(AssertionError, match="two statements are named"):
        statements("two_of_one_name")


@pytest.mark.parametrize("statement", statements("pgwerk").values(), ids=lambda statement: statement.name)
def test_every_statement_is_ready_to_be_sent(statement: Statement) -> None:
    assert not re.search(r"(?<![:\w]):[a-z]", statement.text)
    assert "--" not in statement.text
    assert ";" not in statement.text
    numbers = {int(number) for number in re.findall(r"\$(\d+)", statement.text)}
    assert numbers == set(range(1, len(statement.parameters) + 1))


def test_what_is_asked_all_the_time_is_pinned() -> None:
    found = statements("pgwerk")
    assert {catalogue for catalogue in CATALOGUES if catalogue in PINNED} == {
        "exchange", "ending", "maintenance", "control", "overview"
    }  # fmt: skip
    assert found["claim"].is_pinned
    assert found["settle"].is_pinned
    assert found["promote"].is_pinned
    assert found["list_jobs"].is_pinned
    assert not found["enqueue_now"].is_pinned


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [each.version for each in migrations("pgwerk")] == list(range(1, len(migrations("pgwerk")) + 1))


def test_migrations_stand_in_the_schema_asked_for() -> None:
    assert all('"some where".' in each.text and "pgwerk." not in each.text for each in migrations("some where"))
