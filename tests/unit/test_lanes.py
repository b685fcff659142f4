"""Which ranges of the queue a claim walks: lane by lane, turn by turn."""

from __future__ import annotations

from typing import NamedTuple, cast

import pytest

from pgwerk.store.exchange import Claimed, Gap, Outlook, Range
from pgwerk.worker import lanes as module
from pgwerk.worker.lanes import BACK, END, FRONT, PACE, SETTLING, WIDEST, Lanes


class Place(NamedTuple):
    queue: str
    priority: int
    seq: int


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def lanes(clock: Clock) -> Lanes:
    return Lanes(["a"])


def _learn(lanes: Lanes, *seqs: int, filled: bool = False) -> None:
    lanes.learn(cast("list[Claimed]", [Place("a", 0, seq) for seq in seqs]), filled=filled)


def _outlook(oldest: int, newest: int) -> Outlook:
    return Outlook(0, None, 0.0, oldest, newest)


def test_at_first_there_is_nothing_to_ask_for_and_everything_to_look_at(lanes: Lanes) -> None:
    assert lanes.ask(thorough=True) == []
    assert lanes.gaps() == [Gap("a", -32769, 32768)]


def test_a_new_lane_is_asked_for_whole_the_front_first(lanes: Lanes) -> None:
    lanes.add("a", 0)
    assert lanes.ask(thorough=False) == [Range("a", 0, FRONT, BACK), Range("a", 0, BACK, END)]


def test_a_lane_that_is_known_already_keeps_its_cursor(lanes: Lanes) -> None:
    lanes.add("a", 0)
    lanes.ask(thorough=False)
    _learn(lanes, 50)
    lanes.add("a", 0)
    assert Range("a", 0, 50, END) in lanes.ask(thorough=False)


def test_gaps_lie_between_the_known_priorities_of_each_queue(clock: Clock) -> None:
    lanes = Lanes(["a", "b"])
    lanes.add("a", 0)
    lanes.add("a", 1)
    lanes.add("a", -32768)
    assert [gap for gap in lanes.gaps() if gap.queue == "a"] == [Gap("a", -32768, 0), Gap("a", 1, 32768)]
    assert [gap for gap in lanes.gaps() if gap.queue == "b"] == [Gap("b", -32769, 32768)]


def test_priority_goes_before_the_queues_and_these_take_turns(clock: Clock) -> None:
    lanes = Lanes(["a", "b"])
    for queue, priority in [("a", 0), ("b", 0), ("b", 9)]:
        lanes.add(queue, priority)
    orders = [[(each.queue, each.priority) for each in lanes.ask(thorough=False)[::2]] for _ in range(2)]
    assert [order[0] for order in orders] == [("b", 9), ("b", 9)]
    assert sorted(order[1] for order in orders) == [("a", 0), ("b", 0)]


def test_a_sweep_walks_at_its_pace_and_no_window_is_wider_than_the_widest(lanes: Lanes, clock: Clock) -> None:
    lanes.add("a", 0)
    lanes.ask(thorough=False)
    _learn(lanes, 1_000_000)
    clock.now += 1 / 64
    assert Range("a", 0, 0, PACE // 64) in lanes.ask(thorough=False)
    _learn(lanes)
    clock.now += 60
    assert Range("a", 0, PACE // 64, PACE // 64 + WIDEST) in lanes.ask(thorough=False)


def test_a_thorough_claim_sweeps_all_at_once(lanes: Lanes) -> None:
    lanes.add("a", 0)
    lanes.ask(thorough=False)
    _learn(lanes, 1_000_000)
    assert Range("a", 0, 0, 1_000_000) in lanes.ask(thorough=True)


def test_a_window_that_was_not_walked_to_its_end_is_walked_again(lanes: Lanes, clock: Clock) -> None:
    lanes.add("a", 0)
    lanes.ask(thorough=False)
    _learn(lanes, 1_000_000)
    clock.now += 1 / 64
    window = Range("a", 0, 0, PACE // 64)
    assert window in lanes.ask(thorough=False)
    _learn(lanes, -5, filled=True)  # the front took all the room
    clock.now += 1 / 64
    assert window in lanes.ask(thorough=False)


def test_the_floor_rises_once_nobody_is_left_who_could_put_something_below(lanes: Lanes, clock: Clock) -> None:
    lanes.add("a", 0)
    lanes.ask(thorough=True)
    _learn(lanes, 500)
    for _ in range(8):
        clock.now += SETTLING + 1
        lanes.ask(thorough=True)
        lanes.look_around(_outlook(oldest=200, newest=200))
        _learn(lanes)
    assert lanes.ask(thorough=True) == [Range("a", 0, FRONT, BACK), Range("a", 0, 500, END)]


def test_the_floor_stays_while_a_transaction_is_open(lanes: Lanes, clock: Clock) -> None:
    lanes.add("a", 0)
    lanes.ask(thorough=True)
    _learn(lanes, 500)
    for _ in range(5):
        clock.now += SETTLING + 1
        lanes.ask(thorough=True)
        lanes.look_around(_outlook(oldest=150, newest=200))
        _learn(lanes)
    assert Range("a", 0, 0, 500) in lanes.ask(thorough=True)


def test_an_outlook_from_before_the_cursor_moved_proves_nothing(lanes: Lanes, clock: Clock) -> None:
    """A producer that began after that look has place 10 and keeps its transaction open; somebody else's 500 has
    moved the cursor past it."""
    lanes.add("a", 0)
    lanes.ask(thorough=True)
    lanes.look_around(_outlook(oldest=100, newest=100))
    _learn(lanes)
    lanes.ask(thorough=False)
    _learn(lanes, 500)  # the producer has number 100, and place 10
    clock.now += 1 / 64  # too early for another look
    lanes.ask(thorough=False)
    _learn(lanes)
    for _ in range(5):
        clock.now += SETTLING + 1
        lanes.ask(thorough=True)
        lanes.look_around(_outlook(oldest=100, newest=200))
        _learn(lanes)
    assert any(each.low <= 10 < each.high for each in lanes.ask(thorough=True))


def test_a_reset_forgets_everything(lanes: Lanes) -> None:
    lanes.add("a", 0)
    lanes.ask(thorough=False)
    _learn(lanes, 500)
    lanes.reset()
    assert lanes.ask(thorough=True) == []
    lanes.add("a", 0)
    assert Range("a", 0, 0, END) in lanes.ask(thorough=True)


def test_after_a_rest_everything_is_looked_for_anew(lanes: Lanes) -> None:
    lanes.add("a", 0)
    lanes.ask(thorough=False)
    _learn(lanes, 7)
    assert not lanes.rested(0)
    assert lanes.rested(1)
    assert (lanes.ask(thorough=True), lanes.gaps()) == ([], [Gap("a", -32769, 32768)])
    lanes.add("a", 0)
    assert not lanes.rested(1)
    assert lanes.ask(thorough=True) == [Range("a", 0, FRONT, BACK), Range("a", 0, BACK, END)]


def test_a_rest_between_two_looks_shows_by_the_count_of_changes(lanes: Lanes) -> None:
    """The sweeps of that time found nothing, and prove nothing."""
    lanes.add("a", 0)
    assert lanes.rested(2)
    assert lanes.gaps() == [Gap("a", -32769, 32768)]
