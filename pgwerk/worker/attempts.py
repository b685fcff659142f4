"""The attempts that a worker has under way, from the claimed row to the outcome."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pgwerk import events
from pgwerk.context import Context
from pgwerk.errors import HandlerNotFound, NotSerializable
from pgwerk.execution import Attempt, Outcome, Verdict, decide, described, expired
from pgwerk.handlers import find
from pgwerk.job import Job, JobStatus
from pgwerk.worker.pace import PATIENCE, Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk.store.exchange import Claimed
    from pgwerk.worker.executors.aio import AioExecutor
    from pgwerk.worker.worker import AsyncWorker


@dataclass(slots=True)
class Running:
    row: Claimed
    claim_no: int
    claimed_at: float
    task: asyncio.Task[None] | None = None
    is_interrupted: bool = False


class Attempts:
    """Of one life of a worker. `on_end` hears of every slot that became free and every outcome that is there."""

    def __init__(self, worker: AsyncWorker, worker_id: int, executor: AioExecutor, on_end: Callable[[], None]) -> None:
        self._worker, self._worker_id, self._executor, self._on_end = worker, worker_id, executor, on_end
        self._running: dict[int, Running] = {}
        self._ahead: dict[int, Running] = {}
        self._stuck = 0
        self._outcomes: list[Outcome] = []
        self.pace = Pace()

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def room(self) -> int:
        """For so many more jobs: free slots, and those that will be free in a moment."""
        return self._worker.config.concurrency + self.pace.ahead - len(self._running) - self._stuck - len(self._ahead)

    @property
    def patience(self) -> float | None:
        """Seconds until a job that was claimed ahead has waited too long; None where none waits."""
        first = next(iter(self._ahead.values()), None)
        return None if first is None else max(0.0, first.claimed_at + PATIENCE - time.monotonic())

    @property
    def has_outcomes(self) -> bool:
        return bool(self._outcomes)

    def known(self) -> set[int]:
        """Jobs of which something is still to come."""
        return self._running.keys() | self._ahead.keys() | {outcome.job_id for outcome in self._outcomes}

    def take_outcomes(self) -> list[Outcome]:
        taken, self._outcomes = self._outcomes, []
        return taken

    def give_back(self, outcomes: list[Outcome]) -> None:
        """They could not be stored yet."""
        self._outcomes[:0] = outcomes

    def start(self, row: Claimed, claim_no: int) -> None:
        if not self._is_known(row, claim_no):
            self._ahead[row.job_id] = Running(row, claim_no, time.monotonic())
            self._launch()

    def decline(self, row: Claimed, claim_no: int) -> None:
        """It was claimed when the worker was told to stop."""
        if not self._is_known(row, claim_no):
            self._outcomes.append(self._outcome(Running(row, claim_no, 0), Verdict.UNSTARTED, None, None))

    def _is_known(self, row: Claimed, claim_no: int) -> bool:
        """A job that still runs here (it was taken back from us, and came again) is not started twice: the attempt
        under way goes on under the new claim.
        """
        known = self._running.get(row.job_id) or self._ahead.get(row.job_id)
        if known is None:
            return False
        known.row, known.claim_no = row, claim_no
        return True

    def _launch(self) -> None:
        """In the order of their claims, as many as there are slots."""
        while self._ahead and len(self._running) + self._stuck < self._worker.config.concurrency:
            job_id = next(iter(self._ahead))
            running = self._running[job_id] = self._ahead.pop(job_id)
            running.task = asyncio.create_task(self._run(running))

    def hand_back(self) -> None:
        """What has not started goes back, without using up an attempt."""
        waiting, self._ahead = self._ahead, {}
        self._outcomes += [self._outcome(each, Verdict.UNSTARTED, None, None) for each in waiting.values()]
        self.pace.broken()

    def interrupt(self) -> None:
        """Cancels what runs; it goes back to the queue without using up the attempt."""
        self.hand_back()
        for running in self._running.values():
            running.is_interrupted = True
            if running.task is not None:
                running.task.cancel()

    def abandon(self) -> None:
        """What was interrupted and has not ended goes back all the same; whatever it still does is its own affair."""
        for running in [each for each in self._running.values() if each.is_interrupted]:
            self._end(running, Verdict.INTERRUPTED, None, None)

    def refused(self, outcome: Outcome, error: str) -> None:
        """The server would not store it: the attempt fails with the server's words. If it would not store that
        either, the job stays in our hands until this worker ends.
        """
        events.emit(events.ResultRefused(outcome.job_id, error))
        if outcome.attempt is not None and outcome.status == "complete":
            decision = decide(Verdict.RAISED, outcome.attempt, random.random())  # noqa: S311
            words = f"the result was refused by Postgres: {error}"
            self._outcomes.append(
                replace(outcome, status=decision.status, delay=decision.delay, result=None, error=words)
            )

    async def _run(self, running: Running) -> None:
        verdict, result, error = await self._attempt(running)
        if self._running.get(running.row.job_id) is running:
            self._end(running, verdict, result, error)

    def _end(self, running: Running, verdict: Verdict, result: bytes | None, error: str | None) -> None:
        del self._running[running.row.job_id]
        self._outcomes.append(self._outcome(running, verdict, result, error))
        self.pace.count()
        self._launch()
        self._on_end()

    async def _attempt(self, running: Running) -> tuple[Verdict, bytes | None, str | None]:
        """Whatever a handler throws, also at the event loop, ends this attempt alone."""
        if running.row.is_expired:
            return Verdict.EXPIRED, None, expired(running.row.ttl)
        try:
            return Verdict.RETURNED, await self._result(running), None
        except (HandlerNotFound, NotSerializable) as error:
            return Verdict.RAISED, None, str(error)
        except BaseException as error:  # noqa: BLE001 - an attempt's error, whatever it is
            if isinstance(error, asyncio.CancelledError) and running.is_interrupted:
                return Verdict.INTERRUPTED, None, None
            return Verdict.RAISED, None, described(error)

    async def _result(self, running: Running) -> bytes | None:
        row, serializer = running.row, self._worker.app.serializer
        if row.function is None or row.payload is None:
            raise HandlerNotFound("the job's row is gone; somebody deleted it by hand")
        handler, payload = find(row.function), serializer.loads(row.payload)
        args = (self._context(row), *payload["args"]) if handler.takes_context else payload["args"]
        call = partial(handler.function, *args, **payload["kwargs"])
        result = await self._executor.run(
            call, row.timeout_secs, is_async=handler.is_async, on_stuck=partial(self._note_stuck, row)
        )
        try:
            return None if result is None else serializer.dumps(result)
        except NotSerializable as error:
            raise NotSerializable(f"the result of {handler.path} cannot be stored: {error}") from error

    def _context(self, row: Claimed) -> Context:
        """Made only for the handlers that ask for it."""
        claimed = {
            "id": row.job_id,
            "status": JobStatus.Active,
            "attempts": row.attempt,
            "worker_id": self._worker_id,
        }
        return Context(
            self._worker.app, self._worker, Job.from_row(row._asdict() | claimed, self._worker.app.serializer)
        )

    def _outcome(self, running: Running, verdict: Verdict, result: bytes | None, error: str | None) -> Outcome:
        row = running.row
        attempt = Attempt(row.attempt, row.max_attempts or 1, row.retry_intervals)
        decision = decide(verdict, attempt, random.random())  # noqa: S311
        if verdict is Verdict.RAISED:
            retry_in = decision.delay if decision.status == "retry" else None
            events.emit(
                events.AttemptFailed(
                    row.job_id, str(row.function), attempt.number, attempt.max_attempts, error or "", retry_in
                )
            )
        claim = (row.job_id, self._worker_id, running.claim_no)
        is_expired = verdict is Verdict.EXPIRED
        return Outcome(*claim, decision.status, decision.delay, result, error, attempt, expired=is_expired)

    def _note_stuck(self, row: Claimed, call: asyncio.Future[Any]) -> None:
        self._stuck += 1
        events.emit(events.ThreadStuck(row.job_id, row.function, row.timeout_secs))
        call.add_done_callback(self._unstick)

    def _unstick(self, _: asyncio.Future[Any]) -> None:
        self._stuck -= 1
        self._launch()
        self._on_end()
