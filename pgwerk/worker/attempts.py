"""The attempts that a worker has under way, from the claimed row to the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_right
from collections import OrderedDict
from contextvars import ContextVar
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pgwerk import events
from pgwerk.execution import Outcome, Reported, Verdict, described, expired
from pgwerk.logs import enter_job
from pgwerk.store.workers import Sign
from pgwerk.worker.exchange import HEAVY
from pgwerk.worker.executors.work import Work, context_of
from pgwerk.worker.pace import PATIENCE, Pace
from pgwerk.worker.running import End, Running, end_of, outcome_of, refused_of, told_to_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pgwerk.store.exchange import Claimed
    from pgwerk.wire import Row
    from pgwerk.worker.executors.work import Executor
    from pgwerk.worker.worker import Worker

CLEANING = 1.0  # seconds until a job comes again whose last attempt still cleans up here
_GRAVITY = (Verdict.INTERRUPTED, Verdict.ABORTED, Verdict.LOST)  # of what ends an attempt from outside
_job: ContextVar[int | None] = ContextVar("job", default=None)  # its id: a task's context must not hold the task


class Attempts:
    """Of one life of a worker. `on_end` hears of every slot that became free and every outcome that is there,
    `on_touch` of every handler that gives a sign of life by itself.
    """

    def __init__(
        self, worker: Worker, worker_id: int, executor: Executor, on_end: Callable[[], None],
        on_touch: Callable[[], None],
    ) -> None:  # fmt: skip
        self._worker, self._worker_id, self._executor = worker, worker_id, executor
        self._on_end, self._on_touch = on_end, on_touch
        self._outcome = partial(outcome_of, worker_id)
        self._loop = asyncio.get_running_loop()
        self._concurrency, self._hooks = worker.config.concurrency, worker.hooks
        self._running: dict[int, Running] = {}
        self._ahead: OrderedDict[int, Running] = OrderedDict()
        self._aborting: Mapping[int, int] = {}
        self._stuck = 0
        self._outcomes: list[Outcome] = []
        self.pace = Pace()

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def room(self) -> int:
        """For so many more jobs: free slots, and those that will be free in a moment."""
        slots = self._concurrency + self.pace.ahead - self._stuck
        return int(min(slots, self._worker.wear.jobs_left)) - len(self._running) - len(self._ahead)

    @property
    def patience(self) -> float | None:
        """Seconds until a job that was claimed ahead has waited too long; None where none waits."""
        first = next(iter(self._ahead.values()), None)
        return None if first is None else max(0.0, first.claimed_at + PATIENCE - time.monotonic())

    @property
    def has_outcomes(self) -> bool:
        return bool(self._outcomes)

    @property
    def sign_in(self) -> float | None:
        """Seconds until a sign of life is due; None where none was promised."""
        due = [each.sign_at for each in self._running.values() if each.sign_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def known(self) -> set[int]:
        """Jobs of which something is still to come."""
        return self._running.keys() | self._ahead.keys() | {outcome.job_id for outcome in self._outcomes}

    def take_outcomes(self) -> list[Outcome]:
        """All of them, or as many as are not too heavy together."""
        sizes = accumulate(outcome.size for outcome in self._outcomes)
        count = max(1, bisect_right(list(sizes), HEAVY))
        taken, self._outcomes = self._outcomes[:count], self._outcomes[count:]
        return taken

    def give_back(self, outcomes: list[Outcome]) -> None:
        """They could not be stored yet. What the server took too long over lets the others go first."""
        self._outcomes[:0] = [outcome for outcome in outcomes if not outcome.tries]
        self._outcomes += [outcome for outcome in outcomes if outcome.tries]

    def start(self, row: Claimed, claim_no: int, subject: Row | None = None) -> None:
        if self._goes_on(row, claim_no):
            return
        running = Running(row, subject, claim_no, time.monotonic())
        if row.job_id in self._running:
            self._outcomes.append(self._outcome(running, End(Verdict.UNSTARTED))._replace(delay=CLEANING))
        else:
            self._ahead[row.job_id] = running
            if self._aborting.get(row.job_id) == claim_no:
                self._abort_ahead(row.job_id)
            self._launch()

    def decline(self, row: Claimed, claim_no: int, subject: Row | None = None) -> None:
        """It was claimed when the worker was told to stop."""
        if not self._goes_on(row, claim_no):
            running = Running(row, subject, claim_no, 0)
            self._outcomes.append(self._outcome(running, End(Verdict.UNSTARTED)))

    def _goes_on(self, row: Claimed, claim_no: int) -> bool:
        """A job that still runs here (it was taken back from us, and came again) is not started twice: the attempt
        under way goes on under the new claim, unless it was told to end for good.
        """
        known = self._running.get(row.job_id) or self._ahead.get(row.job_id)
        if known is None or known.verdict in (Verdict.ABORTED, Verdict.LOST):
            return False
        known.row, known.claim_no = row, claim_no
        return True

    def _launch(self) -> None:
        """In the order of their claims, as many as there are slots."""
        while self._ahead and len(self._running) + self._stuck < self._concurrency:
            job_id, running = self._ahead.popitem(last=False)
            self._running[job_id] = running
            running.started_at = time.monotonic()
            if running.row.heartbeat_secs is not None:
                running.sign_at = running.started_at + running.row.heartbeat_secs
            running.task = self._loop.create_task(self._run(running))

    def hand_back(self) -> None:
        """What has not started goes back, without using up an attempt."""
        waiting, self._ahead = self._ahead, OrderedDict()
        self._outcomes += [self._outcome(each, End(Verdict.UNSTARTED)) for each in waiting.values()]
        self.pace.broken()

    def interrupt(self) -> None:
        """Cancels what runs; it goes back to the queue without using up the attempt."""
        self.hand_back()
        for running in self._running.values():
            self._end_from_outside(running, Verdict.INTERRUPTED)

    def break_in(self) -> None:
        """Interrupts in the middle of what holds the loop up, if that is the doing of a job."""
        job_id = _job.get()  # also in the tasks that its handler starts
        if job_id is None:
            return
        running = self._running.get(job_id)
        if running and running.task is asyncio.current_task(self._loop) and running.verdict is None:
            running.verdict = Verdict.INTERRUPTED  # it is told here, and not once more when it cleans up
        self.interrupt()
        raise asyncio.CancelledError

    def abandon(self) -> None:
        """What was interrupted and has not ended goes back all the same; whatever it still does is its own affair."""
        for running in list(self._running.values()):
            if running.verdict is not None:
                self._end(running, told_to_end(running.verdict))

    def abort(self, claims: Mapping[int, int]) -> None:
        """Somebody wants these jobs, each held under that claim number, to end for good; one whose claim has not been
        read here yet, as soon as it is.
        """
        self._aborting = claims
        for job_id in self._ahead.keys() & claims.keys():
            self._abort_ahead(job_id)
        for job_id in self._running.keys() & claims.keys():
            self._end_from_outside(self._running[job_id], Verdict.ABORTED)

    def _abort_ahead(self, job_id: int) -> None:
        outcome = self._outcome(self._ahead.pop(job_id), End(Verdict.ABORTED, error="aborted before it ran"))
        self._outcomes.append(outcome._replace(expired=True))  # as with one that expired, no attempt has started
        self._on_end()

    def lose(self, job_id: int, claim_no: int) -> None:
        """The attempt was taken from us: it ends, and nothing of it is stored."""
        running = self._running.get(job_id)
        if running is not None and running.claim_no == claim_no:
            self._end_from_outside(running, Verdict.LOST)

    def due_signs(self) -> list[Sign]:
        """Signs of life to be given now. They stay due until `signed` says that they were given."""
        now = time.monotonic()
        return [
            Sign(job_id, running.claim_no, running.row.heartbeat_secs or 0.0)
            for job_id, running in self._running.items()
            if running.sign_at is not None and running.sign_at <= now
        ]

    def signed(self, signs: Iterable[Sign]) -> None:
        """The next ones are due a heartbeat later."""
        for sign in signs:
            if (running := self._running.get(sign.job_id)) and running.claim_no == sign.claim_no:
                running.sign_at = time.monotonic() + sign.heartbeat

    def sign_all(self) -> None:
        """The database misses some: all that were promised are due now."""
        for running in self._running.values():
            if running.sign_at is not None:
                running.sign_at = 0.0

    def refused(self, outcome: Outcome, error: str) -> None:
        """The server would not store it: it fails. If that cannot be stored either, the job stays in our hands until
        this worker ends.
        """
        events.emit(events.ResultRefused(outcome.job_id, error))
        if outcome.attempt is not None and outcome.status == "complete":
            self._outcomes.append(refused_of(outcome, outcome.attempt, error))

    def _end_from_outside(self, running: Running, verdict: Verdict) -> None:
        """It is cancelled once: how it cleans up is not cut short by being told again. The graver reason stands."""
        is_told = running.verdict is not None
        if running.verdict is None or _GRAVITY.index(verdict) > _GRAVITY.index(running.verdict):
            running.verdict = verdict
        if running.task is not None and not is_told:
            running.task.add_done_callback(partial(self._end_unbegun, running))
            running.task.cancel()

    def _end_unbegun(self, running: Running, _: asyncio.Task[None]) -> None:
        """A task that is cancelled before its first step takes none."""
        if running.verdict is not None and self._running.get(running.row.job_id) is running:
            self._end(running, told_to_end(running.verdict))

    async def _run(self, running: Running) -> None:
        """Whatever happens, the attempt ends: else its slot and its job would be kept for ever."""
        _job.set(running.row.job_id)
        try:
            if running.row.is_expired:
                end = End(Verdict.EXPIRED, error=expired(running.row.ttl))
            elif self._hooks:
                end = await self._perform_with_hooks(running)
            else:
                end = await self._perform(running)
        except BaseException as error:  # noqa: BLE001 - before its handler began: told to end, a row nobody can read
            end = end_of(running, described(error), error)
        if self._running.get(running.row.job_id) is running:
            self._end(running, end)

    def _end(self, running: Running, end: End) -> None:
        del self._running[running.row.job_id]
        if end.verdict is Verdict.LOST:
            events.emit(events.ClaimLost(running.row.job_id))
        else:
            self._outcomes.append(self._outcome(running, end))
        self.pace.count()
        self._worker.wear.count()
        self._launch()
        self._on_end()

    async def _perform_with_hooks(self, running: Running) -> End:
        context = context_of(self._work(running), self._worker.app, self._worker, partial(self._touch, running))
        await self._hooks.starts(context)
        end = await self._perform(running)
        context.exception = end.exception
        with contextlib.suppress(asyncio.CancelledError):  # the attempt has ended, however long its hooks take
            if end.exception is not None:
                await self._hooks.raised(context)
            await self._hooks.ended(context)
        return end

    async def _perform(self, running: Running) -> End:
        """Whatever a handler throws, also at the event loop, ends this attempt alone."""
        enter_job(running.row.job_id, str(running.row.function), running.row.attempt)
        try:
            touch, on_stuck = partial(self._touch, running), partial(self._note_stuck, running.row)
            return End(Verdict.RETURNED, await self._executor.run(self._work(running), touch, on_stuck))
        except Reported as report:
            return end_of(running, report.text, report.error)
        except BaseException as error:  # noqa: BLE001 - an attempt's error, whatever it is
            return end_of(running, described(error), error)

    def _work(self, running: Running) -> Work:
        return Work(running.row, self._worker_id, running.subject)

    def _touch(self, running: Running) -> None:
        """Called by a handler, from whatever thread it is in."""
        if running.sign_at is not None:
            running.sign_at = 0.0
            self._loop.call_soon_threadsafe(self._on_touch)

    def _note_stuck(self, row: Claimed, call: asyncio.Future[Any]) -> None:
        self._stuck += 1
        events.emit(events.ThreadStuck(row.job_id, row.function, row.timeout_secs))
        call.add_done_callback(self._unstick)

    def _unstick(self, _: asyncio.Future[Any]) -> None:
        self._stuck -= 1
        self._launch()
        self._on_end()
