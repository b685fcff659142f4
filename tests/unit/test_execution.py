"""What follows from an attempt, and the words that are stored of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, strategies as st

from pgwerk.errors import NotSerializable
from pgwerk.execution import Attempt, Decision, Outcome, Verdict, backoff, decide, described, storable

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = [
    # verdict, attempt, of how many, what follows (with a `chance` of 0)
    (Verdict.RETURNED, 1, 1, Decision("complete")),
    (Verdict.RETURNED, 3, 3, Decision("complete")),
    (Verdict.RAISED, 1, 1, Decision("failed")),
    (Verdict.RAISED, 1, 3, Decision("retry", 2.0)),
    (Verdict.RAISED, 2, 3, Decision("retry", 4.0)),
    (Verdict.RAISED, 3, 3, Decision("failed")),
    (Verdict.RAISED, 4, 3, Decision("failed")),  # the limit was lowered meanwhile
    (Verdict.LOST, 1, 1, Decision("failed")),
    (Verdict.LOST, 1, 3, Decision("retry")),
    (Verdict.LOST, 3, 3, Decision("failed")),
    (Verdict.INTERRUPTED, 1, 1, Decision("back")),
    (Verdict.INTERRUPTED, 3, 3, Decision("back")),
    (Verdict.UNSTARTED, 1, 1, Decision("unstarted")),
    (Verdict.UNSTARTED, 3, 3, Decision("unstarted")),
    (Verdict.EXPIRED, 1, 3, Decision("aborted")),
    (Verdict.ABORTED, 1, 3, Decision("aborted")),
]

attempts = st.builds(
    Attempt,
    st.integers(1, 2**31 - 1),
    st.integers(1, 2**31 - 1),
    st.none() | st.lists(st.floats(0, 1e9), min_size=1, max_size=5),
)
chances = st.floats(0, 1)


@pytest.mark.parametrize(("verdict", "number", "most", "decision"), TABLE)
def test_what_follows_from_what(verdict: Verdict, number: int, most: int, decision: Decision) -> None:
    assert decide(verdict, Attempt(number, most), chance=0) == decision


def test_the_table_knows_every_verdict() -> None:
    assert {row[0] for row in TABLE} == set(Verdict)


@given(st.sampled_from(Verdict), attempts, chances)
def test_never_a_retry_when_no_attempt_is_left(verdict: Verdict, attempt: Attempt, chance: float) -> None:
    decision = decide(verdict, attempt, chance)
    assert decision.status != "retry" or attempt.number < attempt.max_attempts


@given(st.sampled_from(Verdict), attempts, chances)
def test_a_delay_is_for_a_retry_alone(verdict: Verdict, attempt: Attempt, chance: float) -> None:
    decision = decide(verdict, attempt, chance)
    assert decision.delay == 0 or (decision.status, verdict) == ("retry", Verdict.RAISED)


@given(attempts, chances)
def test_an_interrupted_attempt_is_never_used_up(attempt: Attempt, chance: float) -> None:
    assert decide(Verdict.INTERRUPTED, attempt, chance) == Decision("back")
    assert decide(Verdict.UNSTARTED, attempt, chance) == Decision("unstarted")


@given(st.sampled_from(Verdict), attempts, chances)
def test_only_what_returned_is_complete(verdict: Verdict, attempt: Attempt, chance: float) -> None:
    assert (decide(verdict, attempt, chance).status == "complete") == (verdict is Verdict.RETURNED)


@pytest.mark.parametrize(
    ("number", "seconds"),
    [(1, 2), (2, 4), (3, 8), (4, 16), (8, 256), (9, 300), (10, 300), (5000, 300), (2**31 - 1, 300)],
)
def test_backoff_doubles_up_to_five_minutes(number: int, seconds: float) -> None:
    assert backoff(Attempt(number, number + 1), chance=0) == seconds


@given(st.integers(1, 2**31 - 1), chances)
def test_jitter_adds_a_tenth_at_most_and_never_passes_the_longest(number: int, chance: float) -> None:
    plain = backoff(Attempt(number, number + 1), chance=0)
    assert plain <= backoff(Attempt(number, number + 1), chance) <= min(plain * 1.1, 300)


def test_jitter_spreads() -> None:
    assert backoff(Attempt(1, 2), chance=1) == pytest.approx(2.2)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=8), st.integers(1, 20), chances)
def test_given_intervals_are_exact_and_the_last_one_repeats(intervals: list[float], number: int, chance: float) -> None:
    expected = intervals[number - 1] if number <= len(intervals) else intervals[-1]
    assert backoff(Attempt(number, number + 1, intervals), chance) == expected


def test_an_interval_of_zero_is_not_taken_for_none() -> None:
    assert backoff(Attempt(1, 2, [0.0]), chance=1) == 0


# What is stored of an error.


def _call_in(module: str | None) -> Callable[[Callable[[], object]], object]:
    """A function of a module of that name, which calls what it is given."""
    scope: dict[str, Any] = {"__name__": module}
    exec("def call(inner):\n    return inner()", scope)  # noqa: S102
    return scope["call"]  # type: ignore[no-any-return]


def _raised(call: Callable[[], object]) -> BaseException:
    """What it raises, without this function's own frame: as an executor hands it on."""
    with pytest.raises(ValueError, match="on purpose") as caught:
        call()
    error = caught.value
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)


def _handler() -> None:
    _deep()


def _deep() -> None:
    raise ValueError("on purpose")


def test_the_handlers_traceback_is_whole() -> None:
    text = described(_raised(_handler))
    assert text.startswith("Traceback (most recent call last):")
    assert text.index("in _handler") < text.index("in _deep")
    assert text.endswith("ValueError: on purpose")


def test_our_own_frames_are_left_out() -> None:
    text = described(_raised(partial(_call_in("pgwerk.worker.attempts"), _handler)))
    assert "in call" not in text
    assert text.count("  File ") == 2


def test_frames_of_ours_below_the_handler_stay() -> None:
    """A handler that misuses our API wants to see where."""

    def handler() -> None:
        _call_in("pgwerk.app")(_deep)

    text = described(_raised(handler))
    assert text.index("in handler") < text.index("in call") < text.index("in _deep")


def test_a_module_that_only_begins_like_ours_is_the_users() -> None:
    assert "in call" in described(_raised(partial(_call_in("pgwerkish.jobs"), _deep)))


def test_the_cause_is_told_too() -> None:
    try:
        try:
            _deep()
        except ValueError as error:
            raise KeyError("outer") from error
    except KeyError as error:
        text = described(error)
    assert "ValueError: on purpose" in text
    assert text.endswith("KeyError: 'outer'")


def test_an_error_without_a_traceback_is_its_own_line() -> None:
    assert described(SystemExit(3)) == "SystemExit: 3"


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class _UnprintableOfOurs(_Unprintable, NotSerializable):
    """Of those whose message is all that is told."""


def _oddly_placed() -> SyntaxError:
    """As parsers raise them: Python's own words of it need numbers."""
    error = SyntaxError("unbalanced")
    error.filename, error.lineno, error.offset, error.text = "page.xml", 1, "7", "<a>"  # type: ignore[assignment]
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (_Unprintable(), "_Unprintable"),
        (_UnprintableOfOurs(), "_UnprintableOfOurs: a _UnprintableOfOurs that cannot be shown"),
        (_oddly_placed(), "SyntaxError: unbalanced (page.xml, line 1)"),
    ],
)
def test_an_error_that_cannot_be_printed_is_described_all_the_same(error: BaseException, words: str) -> None:
    assert words in described(error)


def test_a_frame_without_a_name_is_the_users() -> None:
    assert "in call" in described(_raised(partial(_call_in(None), _deep)))


@given(st.text(st.characters(exclude_categories=())))
def test_every_text_can_be_stored(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored
    stored.encode()


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_what_can_be_stored_stays_as_it_is(text: str) -> None:
    assert storable(text) == text


@pytest.mark.parametrize(
    ("text", "stored"), [("a\0b", "a\\x00b"), ("a\udcffb", "a\\udcffb"), ("naïve 日本", "naïve 日本")]
)
def test_what_cannot_be_stored_is_still_readable(text: str, stored: str) -> None:
    assert storable(text) == stored


def test_an_outcome_travels_with_its_result_as_json() -> None:
    wire = Outcome(7, 1, 2, "complete", result=b'{"a":[1]}').wire()
    assert orjson.loads(orjson.dumps(wire)) == {
        "job_id": 7, "worker_id": 1, "claim_no": 2, "status": "complete", "delay": 0.0,
        "result": {"a": [1]}, "error": None, "expired": False, "has_sequel": True, "is_counted": False,
    }  # fmt: skip


def test_an_outcomes_error_can_be_stored() -> None:
    assert Outcome(7, 1, 2, "failed", error="bad \0").wire()["error"] == "bad \\x00"
