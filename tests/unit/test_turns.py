"""The order of queues, claim by claim."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgwerk import InvalidOption, InvalidType
from pgwerk.worker.turns import Turns

weights = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1)


def _firsts(turns: Turns, claims: int) -> Counter[str]:
    return Counter(next(queue for queue, place in turns.next().items() if place == 0) for _ in range(claims))


def test_equal_queues_come_first_by_turns() -> None:
    turns = Turns(["a", "b", "c"], by_chance=False)
    firsts = [min(order, key=order.__getitem__) for order in (turns.next() for _ in range(6))]
    assert firsts[:3] == firsts[3:]
    assert sorted(firsts[:3]) == ["a", "b", "c"]


@given(weights)
def test_by_turns_each_queue_comes_first_exactly_as_often_as_its_weight_says(given_weights: dict[str, int]) -> None:
    turns = Turns(given_weights, by_chance=False)
    assert _firsts(turns, sum(given_weights.values())) == given_weights


def test_by_turns_the_heavy_do_not_come_in_a_row() -> None:
    turns = Turns({"a": 2, "b": 1, "c": 1}, by_chance=False)
    firsts = "".join(min(order, key=order.__getitem__) for order in (turns.next() for _ in range(8)))
    assert "aa" not in firsts[:4]


def test_by_chance_the_weights_are_the_odds() -> None:
    firsts = _firsts(Turns({"often": 3, "seldom": 1}, by_chance=True), 4000)
    assert 2800 < firsts["often"] < 3200  # five standard deviations are 137


@given(weights, st.booleans())
def test_every_order_holds_every_queue_once(given_weights: dict[str, int], by_chance: bool) -> None:
    turns = Turns(given_weights, by_chance=by_chance)
    for _ in range(5):
        order = turns.next()
        assert sorted(order.values()) == list(range(len(given_weights)))
        assert order.keys() == given_weights.keys()


@pytest.mark.parametrize(
    ("weight", "kind", "words"),
    [
        (0, InvalidOption, "the weight of a queue must be more than 0, got 0 for 'a'"),
        (-1.5, InvalidOption, "the weight of a queue must be more than 0, got -1.5 for 'a'"),
        (float("inf"), InvalidOption, "the weight of a queue must be more than 0, got inf for 'a'"),
        (float("nan"), InvalidOption, "the weight of a queue must be more than 0, got nan for 'a'"),
        ("3", InvalidType, "the weight of a queue is a number, got '3' for 'a'"),
        (True, InvalidType, "the weight of a queue is a number, got True for 'a'"),
    ],
)
def test_a_weight_that_can_never_work(weight: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        Turns({"a": weight}, by_chance=False)
    assert str(caught.value) == words
