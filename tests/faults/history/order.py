"""What must be true of jobs beside and after each other."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from tests.faults.history.facts import grouped
from tests.faults.history.rules import Broken, fatal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.history.facts import Asked, History, Job, Run

# A transaction's time is that of its beginning: who waits in it for another one's end seems to come before that.
SLACK = timedelta(seconds=2)


def never_two_of_a_group(history: History) -> Iterator[Broken]:
    """By the notes of the handlers, as far as their attempts stood; and by the tables, for those that were lost too."""
    rule = "never two of a group"
    for group, jobs in _groups(history).items():
        runs = [run for job in jobs for run in history.runs_of.get(job.id, ()) if not history.is_lost(run)]
        for one, other in pairwise(sorted(runs, key=lambda run: run.tick)):
            if other.tick < (one.end_tick or inf) and not history.is_killed(one):
                yield Broken(rule, other.job_id, f"it ran beside job {one.job_id}, both of {group}")
        tries = [each for job in jobs for each in history.tries.get(job.id, ())]
        for first, then in pairwise(sorted(tries, key=lambda each: each.started_at)):
            if then.started_at < first.finished_at - SLACK:
                yield Broken(rule, then.job_id, f"it was active beside job {first.job_id}, both of {group}")


def a_group_keeps_its_order(history: History) -> Iterator[Broken]:
    """Of two that waited for nothing but their group, the better one starts first if it was there when the other one
    came: in the same call, or committed before that was made.
    """
    for group, jobs in _groups(history).items():
        started = [
            (asked, job, run) for job in jobs if (asked := _unhindered(history, job)) and (run := _first(history, job))
        ]
        for asked, job, run in started:
            for other_asked, other, other_run in started:
                if _is_before(asked, job, other_asked, other) and run.tick > other_run.tick:
                    yield Broken("a group keeps its order", job.id, f"job {other.id} of {group} ran before it")


def _unhindered(history: History, job: Job) -> Asked | None:
    """Not a later run of a series, and with nothing to wait for."""
    asked = history.asked_of(job)
    is_free = asked is not None and not asked.on and not asked.is_later and (job.repeats or 0) == asked.repeats
    return asked if is_free else None


def _first(history: History, job: Job) -> Run | None:
    runs = (run for run in history.runs_of.get(job.id, ()) if not history.is_lost(run))
    return min(runs, key=lambda run: run.tick, default=None)


def _is_before(asked: Asked, job: Job, other_asked: Asked, other: Job) -> bool:
    is_better = (-asked.priority, job.id) < (-other_asked.priority, other.id)
    was_there = asked.call == other_asked.call or (asked.answer_tick or inf) < other_asked.tick
    return is_better and was_there and asked.queue == other_asked.queue


def dependents_come_after(history: History) -> Iterator[Broken]:
    """After every job that they wait for has ended, and not at all if one of these failed."""
    rule = "dependents come after"
    for asked in history.asked:
        for job in history.series.get(asked.name, ())[:1]:
            runs = history.runs_of.get(job.id, ())
            if runs and (names := fatal(history, job)):
                yield Broken(rule, job.id, f"it ran, and {names} had not succeeded")
            if not runs and job.status == "complete":
                yield Broken(rule, job.id, "it is complete without having run")
            for upstream in filter(None, map(history.first_of, asked.on)):
                end = _end(history, upstream)
                if runs and min(run.tick for run in runs) < end:
                    yield Broken(rule, job.id, f"it ran before job {upstream.id} had ended")


def _end(history: History, job: Job) -> float:
    """When the run that ended it was over; one that was lost or killed has not noted it."""
    noted = [run for run in history.runs_of.get(job.id, ()) if not (history.is_lost(run) or history.is_killed(run))]
    runs = [run for run in noted if run.how != "cancelled"]
    return max((run.end_tick or inf for run in runs), default=0)


def only_the_dead_lose_jobs(history: History) -> Iterator[Broken]:
    """No job is taken from a worker to which nothing was done."""
    struck = {fault.pid for fault in history.faults}
    pids = {worker.id: worker.pid for worker in history.workers}
    for each in history.attempts:
        if each.is_lost and pids.get(each.worker_id or 0) not in struck:
            fact = f"attempt {each.attempt} was taken from worker {each.worker_id}, to which nothing had happened"
            yield Broken("only the dead lose jobs", each.job_id, fact)


def _groups(history: History) -> dict[str, list[Job]]:
    asked = [(job, history.asked_of(job)) for job in history.jobs]
    pairs = [(each.group, job) for job, each in asked if each is not None and each.group is not None]
    return {group: [job for _, job in some] for group, some in grouped(pairs, lambda pair: pair[0]).items()}


RULES = (
    never_two_of_a_group, a_group_keeps_its_order, dependents_come_after, only_the_dead_lose_jobs,
)  # fmt: skip
