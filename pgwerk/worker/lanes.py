"""Where to look for work: a worker remembers, for each lane, where its living entries begin.

While any transaction holds an old snapshot, consumed entries cannot be removed, and a scan from the head would walk
over all of them. So a claim starts at the cursor: the lowest entry that the last claim saw alive. Two kinds of entry
can appear behind it: one whose transaction took its place in the queue long before it committed, and one whose claim
was rolled back. For them a sweep walks what lies behind, a window at a time, at a bounded pace; and `floor` rises
over what was swept once nobody is left who could still put something there.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from pgwerk.checks import PRIORITIES
from pgwerk.config import DequeueStrategy
from pgwerk.store.exchange import Gap, Range
from pgwerk.worker.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgwerk.store.exchange import Claimed, Outlook

FRONT, BACK, END = -(2**62), 0, 2**63 - 1
PACE = 100_000  # entries a second that sweeps may walk: about 2 % of a core where all of them are dead
WIDEST = 10_000  # entries in one window, so that no single claim is held up
SETTLING = 60.0  # seconds; longer than any claim of ours may stay open before it is rolled back


class _Passed(NamedTuple):
    """A place that the cursor has passed, and what must be over before nothing can appear below it."""

    cursor: int
    newest: int
    since: float


class Lane:
    """One priority of one queue, its front (jobs that came back) or its back (new ones)."""

    def __init__(self, queue: str, priority: int, start: int, end: int) -> None:
        self.queue, self.priority = queue, priority
        self.cursor = self.floor = self._proven = self._sweep = start
        self._end = end
        self._passed: _Passed | None = None
        self._is_over = False
        self._promised: int | None = None

    def ranges(self, width: int) -> Iterable[Range]:
        if self._sweep < self.cursor:
            yield Range(self.queue, self.priority, self._sweep, min(self._sweep + width, self.cursor))
        yield Range(self.queue, self.priority, self.cursor, self._end)

    def saw(self, seq: int) -> None:
        """The lowest entry that was seen alive; one behind the cursor pulls it back."""
        if seq < self.cursor:
            self._forget_passed()
            self.floor, self._proven = min(self.floor, seq), min(self._proven, seq)
        self.cursor = seq
        if self._sweep >= seq:
            self._sweep = self.floor

    def look_around(self, outlook: Outlook, now: float) -> None:
        """The outlook is younger than the cursor: whoever began after it takes a place above."""
        if self._passed is None:
            self._passed = _Passed(self.cursor, outlook.newest, now)
        elif outlook.oldest >= self._passed.newest and now - self._passed.since >= SETTLING:
            self._is_over = True

    def swept(self, high: int) -> None:
        self._sweep = high
        if high >= self.cursor:
            self._start_round()

    def _start_round(self) -> None:
        """A sweep that began when everything passed was over, and found nothing, proves what it walked empty, but for
        what a claim had locked just then. The next proof, a minute later, sees that too if it came back.
        """
        if self._promised is not None:
            self.floor, self._proven = self._proven, self._promised
            self._forget_passed()
        elif self._passed is not None and self._is_over:
            self._promised = self._passed.cursor
        self._sweep = self.floor

    def _forget_passed(self) -> None:
        self._passed, self._promised, self._is_over = None, None, False


class Lanes:
    """`strategy` says whether a queue's turn or a job's priority comes first."""

    def __init__(
        self, queues: Mapping[str, float] | Sequence[str], strategy: DequeueStrategy = DequeueStrategy.Priority
    ) -> None:
        self._turns = Turns(queues, by_chance=strategy is DequeueStrategy.Random)
        self._is_priority_first = strategy is DequeueStrategy.Priority
        self._swept_at = time.monotonic()
        self.reset()

    def reset(self) -> None:
        """After a reconnect nothing is known: a failover can even take the sequence back."""
        self._lanes: dict[tuple[str, int], tuple[Lane, Lane]] = {}
        self._asked: list[tuple[Lane, Range]] = []
        self._pause_changes = 0

    def rested(self, changes: int) -> bool:
        """How often queues of ours were paused or resumed. True: once more; where entries are has to be found anew, as
        what was swept in a queue that rests proves nothing.
        """
        if changes == self._pause_changes:
            return False
        self._pause_changes, self._lanes = changes, {}
        return True

    def add(self, queue: str, priority: int) -> None:
        front = Lane(queue, priority, FRONT, BACK)
        self._lanes.setdefault((queue, priority), (front, Lane(queue, priority, BACK, END)))

    def ask(self, *, thorough: bool) -> list[Range]:
        """The ranges of the next claim, in its order. A thorough claim sweeps everything at once: it comes before a
        worker says that it is idle.
        """
        now = time.monotonic()
        width = END if thorough else min(WIDEST, int(PACE * (now - self._swept_at)))
        self._swept_at = now
        order = self._order()
        self._asked = [(lane, each) for key in order for lane in self._lanes[key] for each in lane.ranges(width)]
        return [each for _, each in self._asked]

    def _order(self) -> list[tuple[str, int]]:
        turns = self._turns.next()
        if self._is_priority_first:
            return sorted(self._lanes, key=lambda lane: (-lane[1], turns[lane[0]]))
        return sorted(self._lanes, key=lambda lane: (turns[lane[0]], -lane[1]))

    @property
    def queues(self) -> list[str]:
        return self._turns.queues

    def gaps(self) -> list[Gap]:
        """The priorities between the known ones: an entry there must not wait until somebody tells."""
        found = []
        for queue in self.queues:
            known = sorted(priority for name, priority in self._lanes if name == queue)
            bounds = [PRIORITIES.start - 1, *known, PRIORITIES.stop]
            found += [Gap(queue, low, high) for low, high in pairwise(bounds) if high - low > 1]
        return found

    def learn(self, rows: Sequence[Claimed], *, filled: bool) -> None:
        """From the answer: the lowest living entry of each lane, and how far the scan came before it was filled."""
        lowest: dict[Lane, int] = {}
        for row in rows:
            lane = self._lanes[row.queue, row.priority][row.seq >= BACK]
            lowest[lane] = min(row.seq, lowest.get(lane, END))
        self._sweep_on(_reached(self._asked, rows[-1]) if filled and rows else len(self._asked))
        for lane, seq in lowest.items():
            lane.saw(seq)

    def look_around(self, outlook: Outlook) -> None:
        """What is known of transactions after the claim that is just being answered: before `learn`."""
        now = time.monotonic()
        for lanes in self._lanes.values():
            for lane in lanes:
                lane.look_around(outlook, now)

    def _sweep_on(self, reached: int) -> None:
        for lane, asked in self._asked[:reached]:
            if asked.low < lane.cursor:
                lane.swept(asked.high)


def _reached(asked: Sequence[tuple[Lane, Range]], last: Claimed) -> int:
    """How many ranges had been walked to their end when the last row was found."""
    for index, (_, each) in enumerate(asked):
        if (each.queue, each.priority) == (last.queue, last.priority) and each.low <= last.seq < each.high:
            return index
    return 0
