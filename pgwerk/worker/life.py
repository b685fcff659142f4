"""One life of a worker, from its registration to its end. A worker that others have declared dead begins another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from typing import TYPE_CHECKING

import psycopg

from pgwerk import events
from pgwerk.config import DequeueStrategy
from pgwerk.errors import ServerUnreachable
from pgwerk.execution import Outcome
from pgwerk.maintenance import Maintenance
from pgwerk.store.ending import EndingStore
from pgwerk.store.workers import WorkerStore
from pgwerk.worker.attempts import Attempts
from pgwerk.worker.cadence import Cadence
from pgwerk.worker.contact import Contact
from pgwerk.worker.exchange import Exchange, Turn
from pgwerk.worker.lanes import Lanes
from pgwerk.worker.services.beat import BEATS_OF_PATIENCE, Beat
from pgwerk.worker.services.listener import Listener
from pgwerk.worker.services.maintenance import Rounds
from pgwerk.worker.services.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pgwerk.wire import Session
    from pgwerk.worker.executors.work import Executor
    from pgwerk.worker.worker import Worker

POLL_LISTENING, POLL_DEAF = 10.0, 1.0  # seconds
ABORT_LISTENING, ABORT_DEAF = 10.0, 0.5  # seconds between two looks for aborted jobs
STIR = 0.005  # seconds until entries that were on the move have come to rest
FIRST_RECONNECT, LAST_RECONNECT = 0.1, 2.0  # seconds; doubled from one to the other
CANCEL_GRACE = 5.0  # seconds for a cancelled handler to clean up
REST = 1.0  # seconds after a turn of which the server could not do a part


class Life:
    def __init__(self, worker: Worker, executor: Executor) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.is_lost = False
        self._has_failed = False
        self._contact = Contact()
        self._worker, self._database = worker, worker.app.database
        self._executor = executor
        self._pulse = asyncio.Event()
        self._cadence = Cadence()

    async def begin(self) -> None:
        """Registers: from here on others watch for its beat."""
        worker = self._worker
        lanes = Lanes(worker.weights or worker.queues, DequeueStrategy(worker.config.dequeue_strategy))
        patience = worker.config.heartbeat_interval * BEATS_OF_PATIENCE
        register = WorkerStore(self._database.schema).register(
            self.name, type(worker).__name__, worker.queues, worker.config.concurrency, patience
        )
        async with self._database.session() as session:
            self.id = await session.run(register)
        self._exchange = Exchange(self._database, lanes, self.id)
        self._attempts = Attempts(worker, self.id, self._executor, self.look, self._touched)
        self._rounds = Rounds(Maintenance(self._database, worker.config), worker.config.sweep_interval)
        self._beat = Beat(
            self._database, self.id, self.name, worker.config.heartbeat_interval,
            lambda: (self._contact.asked_at, self._exchange.backend),
            self._lose, self._rounds.nudge, self._sign_all, self._doubt,
        )  # fmt: skip
        await self._exchange.connect()
        self._say_started()

    def _say_started(self) -> None:
        config, queues = self._worker.config, ", ".join(self._worker.queues)
        kind, strategy = type(self._worker).__name__, str(config.dequeue_strategy)
        events.emit(events.WorkerStarted(self.id, self.name, kind, queues, strategy, config.concurrency))

    async def run(self) -> None:
        """Until the worker is to stop and nothing is under way, or until it is lost."""
        async with self._services():
            await self._take_turns()
        if not self.is_lost:  # its beat has stopped: that would take the retired for the dead
            await self._retire()

    async def _take_turns(self) -> None:
        """A loss ends even a conversation that the server does not answer any more."""
        try:
            async with asyncio.timeout(None) as self._limit:
                await self._rest()
                while not self._is_over():
                    await self._take_turn()
                    self._worker.stop_if_worn()
                    await self._rest()
        except TimeoutError:
            if not self.is_lost:
                raise

    def close(self) -> None:
        """Whatever handlers still do is their own affair."""
        self._executor.close()

    def look(self) -> None:
        """Something has changed that the loop should see now."""
        self._pulse.set()

    def wind_down(self) -> None:
        """No new jobs; what has not started goes back at once."""
        self._attempts.hand_back()
        self.look()

    def interrupt(self) -> None:
        """Cancels what runs. A handler that does not let itself be cancelled is not waited for longer than this."""
        self._attempts.interrupt()
        grace = max(CANCEL_GRACE, self._worker.config.sigterm_grace + 1.0)
        asyncio.get_running_loop().call_later(grace, self._attempts.abandon)

    def break_in(self) -> None:
        self._attempts.break_in()

    @property
    def running(self) -> int:
        return self._attempts.running

    @property
    def heard_at(self) -> float:
        """When all was well with both conversations, by the monotonic clock."""
        return min(self._beat.heard_at, self._contact.asked_at)

    @contextlib.asynccontextmanager
    async def _services(self) -> AsyncIterator[None]:
        worker, database = self._worker, self._database
        self._upkeep = Upkeep(database, self.id, self._attempts, lambda: self._abort_interval)
        self._listener = Listener(database, self.name, worker.queues, self._wake, self._hear, self._upkeep.tell)
        self._beat.start()
        tasks = [asyncio.create_task(self._rounds.run()), asyncio.create_task(self._upkeep.run())]
        if worker.config.listen and not worker.burst:
            tasks.append(asyncio.create_task(self._listener.run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._beat.stop()
            self._exchange.close()
            self.close()

    async def _retire(self) -> None:
        """Said if there is somebody to hear it; else the others find out by the beat. Bounded, as host names are looked
        up in the loop's own threads, which handlers may have filled.
        """
        with contextlib.suppress(ServerUnreachable, psycopg.Error, TimeoutError):
            async with asyncio.timeout(CANCEL_GRACE), self._database.session() as session:
                await self._hand_in(session)
                await session.run(WorkerStore(self._database.schema).stop(self.id))
                if counts := self._exchange.count_ended():
                    await session.transact(*counts)

    async def _hand_in(self, session: Session) -> None:
        """What is still ours has never started: its answer was lost on the way."""
        if orphans := await session.run(self._exchange.orphans_of(self._attempts.known())):
            back = [Outcome(each.job_id, self.id, each.claim_no, "unstarted") for each in orphans]
            await session.transact(*EndingStore(self._database.schema).end(back))

    def _is_over(self) -> bool:
        if self.is_lost or (self._contact.is_away and self._worker.is_cut_short):
            return True
        if self._attempts.running or self._attempts.has_outcomes:
            return False
        return self._worker.is_stopping or (self._worker.burst and not self._cadence.is_hungry)

    @property
    def _room(self) -> int:
        return 0 if self._worker.is_stopping else max(0, self._attempts.room)

    @property
    def _poll_interval(self) -> float:
        return self._worker.config.poll_interval or (POLL_LISTENING if self._listener.is_listening else POLL_DEAF)

    @property
    def _abort_interval(self) -> float:
        return self._worker.config.abort_interval or (ABORT_LISTENING if self._listener.is_listening else ABORT_DEAF)

    def _hear(self) -> None:
        """From now on, or no more: what was said before nobody has heard."""
        self._upkeep.tell()
        self._wake()

    def _touched(self) -> None:
        self._upkeep.look()

    def _sign_all(self) -> None:
        self._attempts.sign_all()
        self._upkeep.look()

    def _wake(self) -> None:
        self._cadence.wake()
        self.look()

    def _lose(self) -> None:
        self.is_lost = True
        events.emit(events.LivenessLost(self.name, self._attempts.running))
        self._attempts.interrupt()
        with contextlib.suppress(RuntimeError):  # it has taken its last turn already
            self._limit.reschedule(asyncio.get_running_loop().time())

    def _doubt(self, since: float) -> None:
        """The network has swallowed the beat's connection, or ours: one of that time is not to be waited for."""
        if self._contact.answered_at < since:
            self._exchange.hang_up()
            self._wake()

    async def _rest(self) -> None:
        """Until there is something to say to the database, or the loop is to end."""
        while not (self._has_business() or self._is_over()):
            self._pulse.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rest_seconds()):
                    await self._pulse.wait()
            if self._attempts.patience == 0:
                self._attempts.hand_back()

    def _has_business(self) -> bool:
        if self._attempts.has_outcomes or self._exchange.tally.is_due or self._contact.orphans_in == 0:
            return True
        return self._room > 0 and self._is_time_to_claim()

    def _is_time_to_claim(self) -> bool:
        if self._exchange.due_in == 0:
            self._cadence.wake()
        elif not self._cadence.is_hungry and self._cadence.poll_in == 0:
            self._cadence.poll()
        return self._cadence.is_hungry

    def _rest_seconds(self) -> float | None:
        """None: only a change can end the rest."""
        moments = [self._attempts.patience, self._contact.orphans_in, self._exchange.tally.due_in]
        if self._room:
            moments += [self._cadence.poll_in, self._exchange.due_in]
        return min((moment for moment in moments if moment is not None), default=None)

    async def _take_turn(self) -> None:
        room = 0 if self._has_failed and self._attempts.has_outcomes else self._room  # results first
        announce = self._cadence.announcement(listening=self._listener.is_listening) if room else None
        outcomes: list[Outcome] = []
        self._contact.ask()
        try:
            await self._find_orphans()
            outcomes = self._attempts.take_outcomes()
            turn = await self._exchange.take_turn(outcomes, room, thorough=self._cadence.is_checking, announce=announce)
        except ServerUnreachable as error:
            self._attempts.give_back(outcomes)
            await self._survive(error, outcomes)
            return
        self._contact.answered()
        self._attempts.pace.measure()
        self._digest(turn, outcomes)
        self._has_failed = turn.failed
        if turn.failed or turn.left:
            await asyncio.sleep(REST if turn.failed else STIR)
        if turn.asked:
            found, interval = len(turn.claimed), self._poll_interval
            self._cadence.answered(found, more=turn.more or turn.left, announced=announce, poll_interval=interval)
        if turn.ended.readied:
            self._cadence.wake()
        if turn.claimed and not turn.more:
            await asyncio.sleep(0)  # the handlers begin first; where more waits, they run while the server works

    def _digest(self, turn: Turn, outcomes: Sequence[Outcome]) -> None:
        take = self._attempts.decline if self._worker.is_stopping else self._attempts.start
        for row in turn.claimed:
            take(row, turn.claim_no, turn.subjects.get(row.callback_of or 0))
        self._attempts.give_back(turn.unsettled)
        for outcome, error in turn.refused:
            self._attempts.refused(outcome, error)
        pending = {outcome.claim for outcome in turn.unsettled} | {outcome.claim for outcome, _ in turn.refused}
        for outcome in outcomes:
            if outcome.job_id in turn.ended.found:
                self._exchange.tally.count(outcome)
                self._follow_up(outcome)
            elif outcome.worker_id is not None and outcome.claim not in pending | self._contact.unknown:
                events.emit(events.ClaimLost(outcome.job_id))
        self._contact.settled({outcome.claim for outcome in outcomes} - pending)

    def _follow_up(self, outcome: Outcome) -> None:
        """A job that we sent back is one that we may get again; one that ended may have to go at once."""
        if outcome.returns:
            if outcome.delay:
                self._exchange.expect(outcome.delay)
            self._cadence.wake()
        elif outcome.has_sequel:
            self._rounds.nudge()

    async def _survive(self, error: ServerUnreachable, unanswered: Sequence[Outcome]) -> None:
        """Postgres is away: what runs goes on running, what has ended is kept, and one line is logged."""
        events.emit(events.OutageBegan(self.name, str(error)))
        self._contact.lose(unanswered)
        began, pause = time.monotonic(), FIRST_RECONNECT
        while not self._is_over():
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come back at once
            pause = min(pause * 2, LAST_RECONNECT)
            with contextlib.suppress(ServerUnreachable):
                await self._exchange.connect()
                break
        else:
            return
        self._contact.restore()
        self._cadence.restart()
        events.emit(events.OutageEnded(self.name, time.monotonic() - began))

    async def _find_orphans(self) -> None:
        """Jobs that are ours by an answer that was lost: they go back, nobody has started them."""
        if self._contact.orphans_in != 0:
            return
        orphans = await self._exchange.orphans(self._attempts.known())
        self._contact.looked_for_orphans()
        self._attempts.give_back([Outcome(each.job_id, self.id, each.claim_no, "unstarted") for each in orphans])
