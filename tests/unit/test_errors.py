"""What people read of an error."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from pgwerk.errors import headline, printable

if TYPE_CHECKING:
    from collections.abc import Callable


def several_lines() -> None:
    raise ValueError('relation "orders" does not exist\nLINE 1: select\n        ^')


def annotated() -> None:
    error = ValueError("wrong")
    error.add_note("a note")
    raise error


def not_python() -> None:
    compile("a b", "<text>", "exec")


def several() -> None:
    raise ExceptionGroup("many", [ValueError("one\nof them"), KeyError("another")])


def after_several() -> None:
    try:
        several()
    except ExceptionGroup as error:
        raise RuntimeError("in the end") from error


def several_after() -> None:
    try:
        several_lines()
    except ValueError as error:
        raise ExceptionGroup("many", [error]) from error


@pytest.mark.parametrize(
    ("raises", "words"),
    [
        (several_lines, 'ValueError: relation "orders" does not exist'),
        (annotated, "ValueError: wrong"),
        (not_python, "SyntaxError: invalid syntax"),
        (several, "ExceptionGroup: many (2 sub-exceptions)"),
        (after_several, "RuntimeError: in the end"),
        (several_after, "ExceptionGroup: many (1 sub-exception)"),
    ],
)
def test_the_headline_of_a_traceback_names_what_was_raised(raises: Callable[[], None], words: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each raises something else
        raises()
    assert headline("".join(traceback.format_exception(caught.value))) == words


@pytest.mark.parametrize(
    ("text", "words"), [(None, ""), ("", ""), ("\n", ""), ("worker a lost", "worker a lost"), ("one\ntwo", "one")]
)
def test_the_headline_of_a_message_is_its_first_line(text: str | None, words: str) -> None:
    assert headline(text) == words


def test_a_terminal_obeys_nothing_of_what_is_printable() -> None:
    assert printable("a\x1b[2J\x9b\u202e\r\a") == r"a\x1b[2J\x9b\u202e\r\x07"
    assert printable("日本語 é\t\n") == "日本語 é\t\n"
