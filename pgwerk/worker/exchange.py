"""The worker's one conversation with the database: claim what there is room for, then settle what has finished, in
one network round trip.

No timer decides the batch: whatever has finished while the last exchange was on its way goes with the next one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from pgwerk import events
from pgwerk.ending import aborts, failures, merged
from pgwerk.errors import one_line
from pgwerk.store.control import ControlStore
from pgwerk.store.ending import Ended, EndingStore
from pgwerk.store.exchange import Claimed, ExchangeStore, Orphan, Outlook
from pgwerk.store.maintenance import BATCH, MaintenanceStore
from pgwerk.store.workers import WorkerStore
from pgwerk.wire import Disconnected, gave_way, is_refusal
from pgwerk.worker.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgwerk.db import Database
    from pgwerk.execution import Outcome
    from pgwerk.wire import Call, Row, Session
    from pgwerk.worker.lanes import Lanes

    Answers = list[Any] | psycopg.Error

LOOK_AROUND = 0.1  # seconds between two looks at what a claim cannot see, while there is work
DUE_SLACK = 60.0  # seconds; a job scheduled by a transaction that stayed open longer than that is found by the
FULL_LOOK = 60.0  # look at all of them, once in so many seconds
WIDEST = 1000  # entries that one claim looks at where busy groups stand in front
HEAVY = 32 * 2**20  # bytes that are stored at once, if it is more than one result
MOST_TRIES = 5  # of a heavy result that the server takes too long over; a light one is not to blame, and comes again
GROUPLESS = 1000  # entries without a group after which no more of them are expected


@dataclass(slots=True)
class Turn:
    """What one exchange brought."""

    claimed: list[Claimed] = field(default_factory=list)
    subjects: dict[int, Row] = field(default_factory=dict)
    """The jobs that claimed callbacks tell of, as they ended."""

    claim_no: int = 0
    asked: bool = False
    """A claim was part of it."""

    more: bool = False
    """There is more to claim at once."""

    left: bool = False
    """Some entries were on the move: to be looked at again in a moment."""

    failed: bool = False
    """The server could not do part of it: not again at once."""

    ended: Ended = field(default_factory=Ended)
    unsettled: list[Outcome] = field(default_factory=list)
    """The server could not do it now."""

    refused: list[tuple[Outcome, str]] = field(default_factory=list)
    """The server would not take it, and why."""


class Exchange:
    def __init__(self, database: Database, lanes: Lanes, worker_id: int) -> None:
        self._database, self._lanes, self._worker_id = database, lanes, worker_id
        schema = database.schema
        self._claims, self._endings = ExchangeStore(schema), EndingStore(schema)
        self._maintenance, self._workers = MaintenanceStore(schema), WorkerStore(schema)
        self._control = ControlStore(schema)
        self._session: Session | None = None
        self.tally = Tally()
        self._claim_no = 0
        self._span = 0
        self._without_group = GROUPLESS  # entries since the last one of a group
        self._looked_at = self._looked_at_all = float("-inf")
        self._due: float | None = None
        self._due_from = float("-inf")
        self._promote_from = float("-inf")

    @property
    def due_in(self) -> float | None:
        """Seconds until a scheduled job is due."""
        return None if self._due is None else max(0.0, max(self._due, self._promote_from) - time.monotonic())

    @property
    def _expects_groups(self) -> bool:
        return self._without_group < GROUPLESS

    def expect(self, delay: float) -> None:
        """A job that was sent back will be due in so many seconds."""
        due = time.monotonic() + delay
        self._due = due if self._due is None else min(due, self._due)

    async def connect(self) -> None:
        """Nothing is known of what happened without us: every memory starts anew."""
        self.close()
        self._session = await self._database.keep()
        self._lanes.reset()
        self._looked_at = self._looked_at_all = float("-inf")
        self._due, self._due_from = None, float("-inf")

    @property
    def backend(self) -> int | None:
        """The server's process that answers, if that is known."""
        return None if self._session is None else self._session.backend

    def hang_up(self) -> None:
        if self._session is not None:
            self._session.hang_up()

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    async def take_turn(
        self, outcomes: Sequence[Outcome], room: int, *, thorough: bool = False, announce: bool | None = None
    ) -> Turn:
        """Raises `Disconnected` when it cannot be known what was done: the outcomes are then to be sent again."""
        promotes, asks = self.due_in == 0.0, room > 0
        looks = asks and self._is_time_to_look(thorough=thorough)
        parts = {
            "promote": self._promotion() if promotes else None,
            "claim": self._claim(room, looks, announce, settles=bool(outcomes), thorough=thorough) if asks else None,
            "settle": self._endings.end(outcomes),
            "tally": self.count_ended() if self.tally.is_due else None,
        }
        sent = {name: calls for name, calls in parts.items() if calls}
        answers = dict(zip(sent, await self._converse(*sent.values()), strict=True)) if sent else {}
        turn = Turn(claim_no=self._claim_no, asked=asks)
        if "promote" in answers:
            self._read_promotion(answers["promote"])
        if "claim" in answers:
            self._read_claim(turn, answers["claim"], room, looks=looks)
        if "settle" in answers:
            await self._read_settlement(turn, answers["settle"], outcomes)
        if isinstance(error := answers.get("tally"), psycopg.Error) and error.sqlstate:
            events.emit(events.DutyFailed("the tally of the last second", one_line(error)))
        turn.unsettled += failures(turn.ended.doomed)
        await self._read_subjects(turn)
        return turn

    async def orphans(self, running: Iterable[int]) -> list[Orphan]:
        """Claims of ours whose answer never came."""
        ((orphans,),) = [_or_raise(answers) for answers in await self._converse([self.orphans_of(running)])]
        found: list[Orphan] = orphans
        return found

    def orphans_of(self, running: Iterable[int]) -> Call[list[Orphan]]:
        return self._claims.orphans(self._worker_id, self._claim_no, list(running))

    def count_ended(self) -> list[Call[None]]:
        counts = self.tally.take()
        return self._claims.count_ended(counts) if counts else []

    def _promotion(self) -> list[Call[Any]]:
        return [self._maintenance.promote(self._due_from)]

    def _claim(
        self, room: int, looks: bool, announce: bool | None, *, settles: bool, thorough: bool
    ) -> list[Call[Any]]:
        self._claim_no += 1
        calls: list[Call[Any]] = []
        if announce is not None:
            tell = self._workers.announce_idle if announce else self._workers.withdraw_idle
            calls.append(tell(self._worker_id))
        ranges = self._lanes.ask(thorough=thorough)
        claim = self._claims.claim
        if self._expects_groups:
            claim = partial(self._claims.claim_grouped, span=self._span)
        calls.append(claim(self._worker_id, self._claim_no, room, ranges, is_followed=settles))
        if looks:
            calls += [self._claims.look(self._lanes.gaps()), self._claims.outlook(self._due_from, self._lanes.queues)]
        return calls

    def _is_time_to_look(self, *, thorough: bool) -> bool:
        now = time.monotonic()
        if not thorough and now - self._looked_at < LOOK_AROUND:
            return False
        if now - self._looked_at_all > FULL_LOOK:
            self._looked_at_all, self._due_from = now, float("-inf")
        self._looked_at = now
        return True

    def _read_promotion(self, answers: Answers) -> None:
        (promoted,) = _or_raise(answers)
        self._due = time.monotonic() if promoted == BATCH else None
        if not promoted:  # somebody else has them in hand
            self._promote_from = time.monotonic() + LOOK_AROUND
        self._looked_at = float("-inf")

    def _read_claim(self, turn: Turn, answers: Answers, room: int, *, looks: bool) -> None:
        if isinstance(answers, psycopg.Error):
            turn.asked = False
            if isinstance(answers, psycopg.errors.UniqueViolation) and not self._expects_groups:
                turn.more, self._without_group = True, 0  # a row stands where none should: claim_grouped steps over it
            else:
                self._note_failure(turn, "claim", answers)
            return
        if looks:
            *answers, new_lanes, outlook = answers
            self._lanes.look_around(outlook)
            self._note_due(outlook.due, outlook.clock)
        self._read_candidates(turn, answers[-1], room)
        if looks:
            self._read_look(turn, new_lanes, outlook)

    def _read_look(self, turn: Turn, new_lanes: list[tuple[str, int]], outlook: Outlook) -> None:
        if self._lanes.rested(outlook.pause_changes):
            turn.more, self._looked_at = True, float("-inf")
        elif new_lanes:
            turn.more = True
            for queue, priority in new_lanes:
                self._lanes.add(queue, priority)

    def _read_candidates(self, turn: Turn, candidates: list[Claimed], room: int) -> None:
        """Those of busy groups are no work, but the work behind them is to be seen at once: who found too little looks
        farther the next time.
        """
        filled = len(candidates) == max(room, self._span)
        self._lanes.learn(candidates, filled=filled)
        turn.claimed = [row for row in candidates if row.fate == "taken"]
        is_full = len(turn.claimed) == room
        looks_farther = filled and not is_full and self._expects_groups
        self._span = min(WIDEST, 2 * max(room, self._span)) if looks_farther else 0
        turn.more = filled or is_full
        has_left = any(row.fate == "left" for row in candidates)
        turn.left = has_left and not is_full and self._expects_groups
        turn.more |= has_left and not turn.left  # claim_grouped takes them at once
        if has_left or any(row.group_key is not None for row in candidates):
            self._without_group = 0
        else:
            self._without_group += len(candidates)

    async def _read_subjects(self, turn: Turn) -> None:
        ids = {row.callback_of for row in turn.claimed if row.callback_of is not None}
        if ids:
            ((rows,),) = [_or_raise(each) for each in await self._converse([self._control.get_jobs(list(ids))])]
            turn.subjects = {row["id"]: row for row in rows}

    def _note_due(self, due: float | None, clock: float) -> None:
        self._due = None if due is None else time.monotonic() + max(0.0, due - clock)
        self._due_from = min(clock if due is None else due, clock) - DUE_SLACK

    async def _read_settlement(self, turn: Turn, answers: Answers, outcomes: Sequence[Outcome]) -> None:
        if not isinstance(answers, psycopg.Error):
            ended = merged(answers)
            turn.ended |= ended
            turn.unsettled += aborts(outcomes, ended.found)
        elif not (is_refusal(answers) or isinstance(answers, psycopg.errors.QueryCanceled)):
            turn.unsettled += outcomes
            self._note_failure(turn, "settle", answers)
        elif len(outcomes) > 1:
            await self._settle_apart(turn, outcomes)
        elif is_refusal(answers) or _is_hopeless(outcomes[0]):
            turn.refused.append((outcomes[0], str(answers).strip()))
        else:
            turn.unsettled.append(outcomes[0]._replace(tries=outcomes[0].tries + 1))
            self._note_failure(turn, "settle", answers)

    def _note_failure(self, turn: Turn, what: str, error: psycopg.Error) -> None:
        """Who only had to give way to somebody else comes again at once."""
        if gave_way(error):
            turn.more = True
            return
        turn.failed = True
        if error.sqlstate:  # else it was only skipped, as what came before it failed
            events.emit(events.DutyFailed(what, one_line(error)))

    async def _settle_apart(self, turn: Turn, outcomes: Sequence[Outcome]) -> None:
        """One bad result never stops the others: what the server refuses, or takes too long over, is halved until the
        culprit stands alone.
        """
        half = len(outcomes) // 2
        for part in (outcomes[:half], outcomes[half:]):
            (answers,) = await self._converse(self._endings.end(part))
            await self._read_settlement(turn, answers, part)

    async def _converse(self, *transactions: Sequence[Call[Any]]) -> list[Answers]:
        if self._session is None:
            raise Disconnected("the worker has no connection")
        return await self._session.converse(*transactions)


def _is_hopeless(outcome: Outcome) -> bool:
    return outcome.size > HEAVY and outcome.tries + 1 >= MOST_TRIES


def _or_raise(answers: Answers) -> list[Any]:
    if isinstance(answers, psycopg.Error):
        raise Disconnected(str(answers).strip()) from answers
    return answers
