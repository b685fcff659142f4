"""The claim cursor against a model of the table: whatever producers and other workers do, nothing is overlooked."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pgwerk.store.exchange import Claimed, Gap, Outlook, Range
from pgwerk.worker import lanes as module
from pgwerk.worker.exchange import LOOK_AROUND
from pgwerk.worker.lanes import BACK, END, PACE, SETTLING, WIDEST, Lane, Lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUES = ("a", "b")
PRIORITIES = (0, 7)
FRONT_SHIFT = 2**62


class Place(NamedTuple):
    queue: str
    priority: int
    seq: int


@dataclass
class Table:
    """`ready`, as transactions see it: what is visible, what is not committed yet, what somebody has locked."""

    next_seq: int = 1
    next_xid: int = 100
    visible: set[Place] = field(default_factory=set)
    inserting: dict[int, list[Place]] = field(default_factory=dict)
    claiming: dict[int, list[Place]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    pause_changes: int = 0

    def begin_insert(self, queue: str, priority: int, count: int, *, in_front: bool) -> int:
        xid = self._xid()
        self.inserting[xid] = [self._place(queue, priority, in_front=in_front) for _ in range(count)]
        return xid

    def end_insert(self, xid: int, *, committed: bool) -> None:
        places = self.inserting.pop(xid)
        self.visible.update(places if committed else ())

    def claim(self, ranges: list[Range], room: int) -> list[Place]:
        """Skips what is locked; in the order of the ranges, up to `room`."""
        found: list[Place] = []
        ordered = sorted(place for place in self.visible if place.queue not in self.paused)
        for each in ranges:
            start = bisect.bisect_left(ordered, (each.queue, each.priority, each.low))
            end = bisect.bisect_left(ordered, (each.queue, each.priority, each.high))
            found += ordered[start:end]
        return found[:room]

    def begin_claim(self, count: int) -> None:
        places = sorted(self.visible)[:count]
        self.visible.difference_update(places)
        self.claiming[self._xid()] = places

    def end_claim(self, xid: int, *, committed: bool) -> None:
        places = self.claiming.pop(xid)
        self.visible.update(() if committed else places)

    def outlook(self) -> Outlook:
        oldest = min([*self.inserting, *self.claiming, self.next_xid])
        return Outlook(self.pause_changes, None, 0.0, oldest, self.next_xid)

    def alive(self) -> Iterator[Place]:
        """Whatever can be seen now or may still appear."""
        yield from self.visible
        for places in (*self.inserting.values(), *self.claiming.values()):
            yield from places

    def _xid(self) -> int:
        self.next_xid += 1
        return self.next_xid - 1

    def _place(self, queue: str, priority: int, *, in_front: bool) -> Place:
        self.next_seq += 1
        return Place(queue, priority, self.next_seq - 1 - (FRONT_SHIFT if in_front else 0))


class Model(RuleBasedStateMachine):
    """One worker with its lanes, producers whose transactions stay open, other workers whose claims may roll back."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.table = Table()
        self.lanes = Lanes(QUEUES)
        self.asked_at = self.looked_at = self.now

    def teardown(self) -> None:
        try:
            self._everybody_ends()
            self._nothing_is_overlooked()
        finally:
            self._patch.undo()

    @initialize()
    def first_turn(self) -> None:
        self._turn(5, looks=True)

    @rule(
        queue=st.sampled_from(QUEUES), priority=st.sampled_from(PRIORITIES), count=st.integers(1, 4),
        in_front=st.booleans(), is_open=st.booleans(),
    )  # fmt: skip
    def enqueue(self, queue: str, priority: int, count: int, in_front: bool, is_open: bool) -> None:
        xid = self.table.begin_insert(queue, priority, count, in_front=in_front)
        if not is_open:
            self.table.end_insert(xid, committed=True)

    @rule(queue=st.sampled_from(QUEUES), priority=st.sampled_from(PRIORITIES), turns=st.integers(1, 3))
    def a_producer_is_overtaken(self, queue: str, priority: int, turns: int) -> None:
        """While there is much to do, and turns follow each other too fast for a look each."""
        self.table.begin_insert(queue, priority, 1, in_front=False)
        self.enqueue(queue, priority, 1, in_front=False, is_open=False)
        for _ in range(turns):
            self.now += 0.01
            self._turn(6, looks=self.now - self.looked_at >= LOOK_AROUND)

    @rule(count=st.integers(1, 30_000))
    def others_come_and_go(self, count: int) -> None:
        """Entries that this worker never saw: places are used up."""
        self.table.next_seq += count

    @precondition(lambda self: self.table.inserting)
    @rule(data=st.data(), committed=st.booleans())
    def a_producer_ends(self, data: st.DataObject, committed: bool) -> None:
        self.table.end_insert(data.draw(st.sampled_from(sorted(self.table.inserting))), committed=committed)

    @rule(count=st.integers(1, 5))
    def another_worker_claims(self, count: int) -> None:
        self.table.begin_claim(count)

    @precondition(lambda self: self.table.claiming)
    @rule(data=st.data(), committed=st.booleans())
    def another_claim_ends(self, data: st.DataObject, committed: bool) -> None:
        self.table.end_claim(data.draw(st.sampled_from(sorted(self.table.claiming))), committed=committed)

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.2]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(minutes=st.integers(1, 4))
    def quiet_minutes(self, minutes: int) -> None:
        """Open claims are rolled back by the server long before `SETTLING` is over; a producer's transaction may stay
        open for ever."""
        for xid in list(self.table.claiming):
            self.table.end_claim(xid, committed=False)
        for _ in range(minutes):
            self.now += SETTLING + 1
            self._turn(6, looks=True, thorough=True)

    @rule(room=st.integers(1, 6), thorough=st.booleans())
    def turn(self, room: int, thorough: bool) -> None:
        """As the exchange does: it looks around at most every tenth of a second, or when it is thorough."""
        self._turn(room, looks=thorough or self.now - self.looked_at >= LOOK_AROUND, thorough=thorough)

    @rule()
    def a_turn_fails(self) -> None:
        """The claim was rolled back, and nothing was learnt from it."""
        self.lanes.ask(thorough=False)
        self.asked_at = self.now

    @rule(queue=st.sampled_from(QUEUES), minutes=st.integers(0, 3))
    def a_queue_rests(self, queue: str, minutes: int) -> None:
        self.table.paused.add(queue)
        self.table.pause_changes += 1
        for _ in range(minutes):
            self.now += 0.05
            self._turn(6, looks=False, thorough=True)
        if minutes == 2:
            self.quiet_minutes(2)

    @precondition(lambda self: self.table.paused)
    @rule()
    def queues_rest_no_more(self) -> None:
        self.table.paused.clear()
        self.table.pause_changes += 1

    @rule()
    def reconnect(self) -> None:
        self.lanes.reset()
        self._turn(3, looks=True)

    @invariant()
    def nothing_that_may_appear_lies_below_a_floor(self) -> None:
        for place in self.table.alive() if self.lanes._pause_changes == self.table.pause_changes else ():
            lane = self._lane(place)
            assert lane is None or place.seq >= lane.floor, f"{place} lies below the floor {lane.floor}"

    @invariant()
    def no_floor_is_above_its_cursor(self) -> None:
        assert all(lane.floor <= lane.cursor for pair in self.lanes._lanes.values() for lane in pair)

    def _turn(self, room: int, *, looks: bool, thorough: bool = False) -> list[Place]:
        ranges = self.lanes.ask(thorough=thorough)
        self._check(ranges, width=END if thorough else min(WIDEST, int(PACE * (self.now - self.asked_at))))
        self.asked_at = self.now
        found = self.table.claim(ranges, room)
        if looks:
            self.looked_at = self.now
            self.lanes.look_around(self.table.outlook())
            new = self._look(self.lanes.gaps())
        self.lanes.learn(cast("list[Claimed]", found), filled=len(found) == room)
        if looks:
            self._learn_pauses(new)
        self.table.visible.difference_update(found)
        return found

    def _learn_pauses(self, new: list[tuple[str, int]]) -> None:
        outlook = self.table.outlook()
        if self.lanes.rested(outlook.pause_changes):
            self.looked_at = float("-inf")
            return
        for queue, priority in new:
            self.lanes.add(queue, priority)

    def _look(self, gaps: list[Gap]) -> list[tuple[str, int]]:
        found = []
        for gap in gaps:
            inside = [
                p.priority for p in self.table.visible if p.queue == gap.queue and gap.above < p.priority < gap.below
            ]
            found += [(gap.queue, max(inside))] if inside else []
        return found

    def _check(self, ranges: list[Range], width: int) -> None:
        assert [each.priority for each in ranges] == sorted((each.priority for each in ranges), reverse=True)
        for each in ranges:
            lane = self._lane(Place(each.queue, each.priority, each.low))
            assert lane is not None
            assert lane.floor <= each.low <= each.high
            assert each.low == lane.cursor or each.high - each.low <= width
        for one, other in zip(sorted(ranges), sorted(ranges)[1:], strict=False):
            assert one[:2] != other[:2] or one.high <= other.low, "two ranges overlap"

    def _lane(self, place: Place) -> Lane | None:
        pair = self.lanes._lanes.get(place[:2])
        return None if pair is None else pair[place.seq >= BACK]

    def _everybody_ends(self) -> None:
        self.queues_rest_no_more()
        for xid in list(self.table.inserting):
            self.table.end_insert(xid, committed=True)
        for xid in list(self.table.claiming):
            self.table.end_claim(xid, committed=False)

    def _nothing_is_overlooked(self) -> None:
        """Each turn a tenth of a second after the last: a window of each lane, one new lane of each gap."""
        windows = self.table.next_seq // WIDEST + 1
        for _ in range(2 * windows + len(PRIORITIES) * len(QUEUES) + len(self.table.visible) + 2):
            self.now += 0.1
            self._turn(5, looks=True)
        assert not self.table.visible


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
