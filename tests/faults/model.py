"""What is promised of jobs, in as few words as possible: nothing of tables, locks or statements. Time is in hours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pgwerk import EnqueueParams, Repeat, Retry
from tests.db.portrait import Line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PENDING = ("queued", "scheduled", "waiting")
RUNNING = ("active", "aborting")
FINAL = ("complete", "failed", "aborted")
HOUR = 3600
KEPT = {"complete": 3, "failed": 5, "aborted": 5}  # hours, as the app is configured
CALLBACK_ATTEMPTS = 3


@dataclass(eq=False)
class Job:
    asked: EnqueueParams
    id: int = 0  # 0: made by the database, and not seen yet
    status: str = "queued"
    priority: int = 0
    attempts: int = 0
    before: int = 0  # attempts when it was last requeued
    history: list[str] = field(default_factory=list)
    repeats: int = 0
    subject: Job | None = None
    unmet: dict[Job, bool] = field(default_factory=dict)
    due: int | None = None
    can_expire: bool = True
    expires: int | None = None
    stale: int | None = None
    ended: int = 0
    why: str | None = None
    worker: int | None = None
    claim: int | None = None

    @property
    def limit(self) -> int:
        retry = self.asked.retry
        return self.before + (retry.max if isinstance(retry, Retry) else retry)

    @property
    def rank(self) -> tuple[int, int]:
        """Its place in its group."""
        return -self.priority, self.id

    def line(self, now: int) -> Line:
        waits, rests = self.status == "waiting", self.status in ("waiting", "scheduled")
        return Line(
            id=self.id, function=str(self.asked.func), status=self.status, is_blocked=False, queue=self.asked.queue,
            priority=self.priority, group=self.asked.group, key=self.asked.key, attempts=self.attempts,
            limit=self.limit, history=self.history, repeats=self.repeats,
            subject=self.subject.id if self.subject else None,
            unmet=sorted(job.id for job in self.unmet) if waits else [], due=_until(self.due, now) if rests else None,
            expires=None if rests else _until(self.expires, now),
            stale=_until(self.stale, now) if self.status in RUNNING else None, why=self.why,
        )  # fmt: skip


class Model:
    def __init__(self) -> None:
        self.now = 0
        self.jobs: list[Job] = []
        self.living: set[int] = set()

    # What callers do.

    def enqueue(self, asked: EnqueueParams, on: Mapping[Job, bool], job_id: int) -> None:
        repeats = asked.repeat.times if asked.repeat else 0
        due = None if asked.delay is None else self.now + _hours(asked.delay)
        job = Job(asked, job_id, "waiting", asked.priority, repeats=repeats, due=due, unmet=dict(on))
        self.jobs.append(job)
        if not on:
            self._place(job, due)
        for upstream in on:
            self._tell(upstream, job)

    def has_key(self, key: str | None) -> bool:
        return key is not None and any(job.asked.key == key for job in self.jobs)

    def cancel(self, job: Job, why: str = "cancelled") -> bool:
        return job.status in PENDING and self._end(job, "aborted", why)

    def abort(self, job: Job) -> bool:
        is_new = job.status == "active"
        job.status = "aborting" if is_new else job.status
        return is_new

    def requeue(self, job: Job) -> bool:
        if job.status not in ("failed", "aborted"):
            return False
        job.before, job.can_expire, job.why = job.attempts, True, None
        self._place(job, self.now)
        return True

    def update(self, job: Job, priority: int | None, delay: int | None) -> bool:
        if job.status not in PENDING:
            return False
        moves = priority is not None or delay is not None
        job.priority = job.priority if priority is None else priority
        job.due = job.due if delay is None else self.now + delay
        if (job.status == "queued" and delay is not None) or (job.status == "scheduled" and moves):
            self._place(job, job.due)
        return True

    def touch(self, job: Job) -> bool:
        self._renew(job)
        return job.status in RUNNING

    def delete(self, job: Job) -> bool:
        self.cancel(job, "deleted")
        if job.status not in FINAL:
            return False
        job.expires = self.now
        self._forget([job])
        return True

    def purge(self, status: str, hours: int) -> None:
        for job in [job for job in self.jobs if job.status == status and job.ended + hours <= self.now]:
            if job in self.jobs and not _is_past(job.expires, self.now):
                self.delete(job)

    # What workers do.

    def claim(self, worker: int, claim_no: int, taken: Iterable[int]) -> None:
        for job in [job for job in self.jobs if job.id in set(taken)]:
            assert job in self.free(), f"job {job.id} was not free to be claimed"
            job.status, job.worker, job.claim = "active", worker, claim_no
            job.attempts += 1
            self._renew(job)

    def free(self) -> list[Job]:
        """Those that may be claimed: of a group the best of a queue, while none of it runs."""
        return [job for job in self.jobs if job.status == "queued" and self._is_first(job)]

    def is_held(self, job: Job, worker: int, claim_no: int) -> bool:
        return job.status in RUNNING and (job.worker, job.claim) == (worker, claim_no)

    def settle(self, job: Job, verdict: str) -> None:
        """How an attempt ended. What somebody wants to end for good does not come back, and its attempt was aborted."""
        if job.status == "aborting" and (verdict == "interrupted" or self._is_retried(job, verdict)):
            verdict = "aborted"
        match verdict:
            case "returned":
                self._note(job, "complete")
                self._end(job, "complete")
            case "raised" | "timed out":
                self._fail(job, verdict.split(maxsplit=1)[0], self._interval(job))
            case "aborted":
                self._note(job, "aborted")
                self._end(job, "aborted", "aborted")
            case "expired":
                job.attempts -= 1
                self._end(job, "aborted", "expired")
            case "interrupted" | "unstarted":
                job.attempts -= 1
                job.can_expire &= verdict == "unstarted"
                self._come_back(job, self.now)

    def _is_retried(self, job: Job, verdict: str) -> bool:
        return verdict in ("raised", "timed out") and job.attempts < job.limit

    def kill(self, worker: int) -> None:
        self.living.discard(worker)

    # What the clock does.

    def promote(self) -> None:
        for job in self.jobs:
            if job.status == "scheduled" and job.due is not None and job.due <= self.now:
                self._place(job, job.due)

    def sweep(self) -> None:
        for job in list(self.jobs):
            if job.status in RUNNING and (job.worker not in self.living or _is_past(job.stale, self.now)):
                self._lose(job, "the" if job.worker in self.living else "worker")
            if job.status == "queued" and _is_past(job.expires, self.now):
                self._end(job, "aborted", "expired")
        self._forget([job for job in self.jobs if job.status in FINAL and self._is_over(job)])

    # What follows from what.

    def _place(self, job: Job, due: int | None) -> None:
        job.due = due
        job.status = "scheduled" if due is not None and due > self.now else "queued"
        if job.status == "queued":
            began = self.now if due is None else due
            ttl = job.asked.ttl if job.can_expire else None
            job.expires = None if ttl is None else began + _hours(ttl)

    def _come_back(self, job: Job, due: int) -> None:
        if job.status == "aborting":
            self._end(job, "aborted", "aborted")
        elif job.can_expire:
            job.status = "queued"
        else:
            self._place(job, due)

    def _fail(self, job: Job, why: str, interval: int) -> None:
        self._note(job, "failed")
        job.can_expire = False
        if job.attempts < job.limit:
            self._come_back(job, self.now + interval)
        else:
            self._end(job, "failed", why)

    def _lose(self, job: Job, why: str) -> None:
        if job.status == "aborting":
            self._note(job, "aborted")
            self._end(job, "aborted", why)
        else:
            self._fail(job, why, 0)

    def _end(self, job: Job, status: str, why: str | None = None) -> bool:
        asked = job.asked
        job.status, job.why, job.ended = status, why, self.now
        keep = asked.result_ttl if status == "complete" else asked.failure_ttl
        if status == "failed" and asked.failure_mode == "delete":
            keep = 0
        job.expires = None if keep is None else self.now + _hours(keep)
        callback = {"complete": asked.on_success, "failed": asked.on_failure, "aborted": asked.on_stopped}[status]
        if callback is not None:
            told = EnqueueParams(callback, queue=asked.queue, retry=CALLBACK_ATTEMPTS)  # type: ignore[arg-type]
            self.jobs.append(Job(told, priority=job.priority, subject=job))
        if status == "complete" and job.repeats:
            self._repeat(job)
        for other in [other for other in self.jobs if other.status == "waiting" and job in other.unmet]:
            self._tell(job, other)
        return True

    def _repeat(self, job: Job) -> None:
        interval, *later = job.asked.repeat.seconds() if job.asked.repeat else [0.0]
        asked = replace(job.asked, key=None, depends_on=None, repeat=Repeat(1, intervals=later or [interval]))
        # it has its time even where that is now
        due = self.now + _hours(interval)
        self.jobs.append(Job(asked, status="scheduled", priority=job.priority, repeats=job.repeats - 1, due=due))

    def _tell(self, upstream: Job, job: Job) -> None:
        """A job of what it depends on, if that has ended."""
        if job.status != "waiting" or upstream.status not in FINAL:
            return
        if not job.unmet.pop(upstream) and upstream.status != "complete":
            self._end(job, "failed", "dependency")
        elif not job.unmet:
            self._place(job, self.now if job.due is None else max(job.due, self.now))

    def _is_first(self, job: Job) -> bool:
        group = [other for other in self.jobs if other.asked.group == job.asked.group]
        if job.asked.group is None:
            return True
        rivals = [other.rank for other in group if other.status == "queued" and other.asked.queue == job.asked.queue]
        return job.rank == min(rivals) and not any(other.status in RUNNING for other in group)

    def _interval(self, job: Job) -> int:
        number, retry = job.attempts - job.before, job.asked.retry
        if isinstance(retry, int):
            return int(2**number)
        seconds = retry.seconds()
        return _hours(seconds[min(number, len(seconds)) - 1])

    def _renew(self, job: Job) -> None:
        job.stale = None if job.asked.heartbeat is None else self.now + 2 * _hours(job.asked.heartbeat)

    def _note(self, job: Job, status: str) -> None:
        job.history.append(f"{job.attempts} {status}")

    def _is_over(self, job: Job) -> bool:
        keep = job.ended + KEPT[job.status] if job.expires is None else job.expires
        return keep <= self.now

    def _forget(self, jobs: Iterable[Job]) -> None:
        """With their callbacks; not while one of these has not ended."""
        for job in jobs:
            callbacks = [other for other in self.jobs if other.subject is job]
            if job in self.jobs and all(other.status in FINAL for other in callbacks):
                self.jobs = [other for other in self.jobs if other is not job and other not in callbacks]


def _hours(seconds: object) -> int:
    assert isinstance(seconds, int | float) and seconds % HOUR == 0
    return int(seconds) // HOUR


def _until(hour: int | None, now: int) -> int | None:
    return None if hour is None else hour - now


def _is_past(hour: int | None, now: int) -> bool:
    return hour is not None and hour <= now
