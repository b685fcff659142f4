"""What must be true of a job by itself, whatever happened to workers, connections and servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.faults.history.facts import CALLBACKS, COMMITTED, ROLLED_BACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.history.facts import Asked, History, Job, Run

CALLBACK_ATTEMPTS = 3


class Broken(NamedTuple):
    rule: str
    job: int | str | None
    """By its number, or by the name under which it was asked for."""

    fact: str

    def __str__(self) -> str:
        return f"{self.rule}: job {self.job}: {self.fact}"


def nothing_is_lost(history: History) -> Iterator[Broken]:
    """Every enqueue that committed has its job, and every job has ended, in one place."""
    rule = "nothing is lost"
    for asked in history.asked:
        if asked.outcome == COMMITTED and asked.job_id is not None and asked.job_id not in history.by_id:
            yield Broken(rule, asked.name, f"committed as {asked.job_id}, and there is no such job")
    for job in history.jobs:
        if job.status is None:
            yield Broken(rule, job.id, f"{job.name or 'a callback'} has not ended")
    for job_id, rooms in history.misplaced:
        yield Broken(rule, job_id, f"it is in {rooms}, and not in one place")


def nothing_is_made_up(history: History) -> Iterator[Broken]:
    """What was rolled back was never there and never ran; a name has no more jobs than were asked for."""
    rule = "nothing is made up"
    for asked in history.asked:
        is_unwanted = asked.outcome == ROLLED_BACK or (asked.outcome == COMMITTED and asked.job_id is None)
        if is_unwanted and asked.name in history.series:
            yield Broken(rule, asked.name, f"{asked.outcome} without it, and there is job {_ids(history, asked)}")
    for job in history.jobs:
        if history.asked_of(job) is None and job.callback_of is None:
            yield Broken(rule, job.id, "nobody has asked for it")
    for run in history.runs:
        if history.job_of(run) not in history.by_id:
            yield Broken(rule, run.job_id or run.callback_of, f"{run.name} ran, and there is no such job")


def a_key_has_one_job(history: History) -> Iterator[Broken]:
    holders: dict[str, list[int]] = {}
    for job in history.jobs:
        if job.key is not None:
            holders.setdefault(job.key, []).append(job.id)
    for key, ids in holders.items():
        if len(ids) > 1:
            yield Broken("a key has one job", ids[-1], f"the key {key} is that of {ids}")
    for asked in history.asked:
        if asked.key is not None and asked.outcome == COMMITTED and asked.key not in holders:
            yield Broken("a key has one job", asked.name, f"committed, and no job has the key {asked.key}")


def a_result_is_that_of_its_attempt(history: History) -> Iterator[Broken]:
    """At most one completion is accepted: that of a run that returned, and whose claim still stood."""
    rule = "a result is that of its attempt"
    for job in history.jobs:
        if job.status != "complete":
            continue
        run = history.accepted(job)
        if run is None:
            yield Broken(rule, job.id, f"it is complete with {job.result!r}, which no run of it has returned")
        elif run.how != "returned":
            yield Broken(rule, job.id, f"it is complete by run {run.tick}, which {run.how or 'never ended'}")
        elif run.worker_id != job.worker_id or run.attempt not in (None, job.attempt):
            held, ran = f"attempt {job.attempt} of worker {job.worker_id}", f"attempt {run.attempt} of {run.worker_id}"
            yield Broken(rule, job.id, f"{held} is complete with the result of {ran}")


def no_run_is_forgotten(history: History) -> Iterator[Broken]:
    """A run that ended was stored, unless its attempt had been lost; one that did not was lost."""
    for run in history.runs:
        job = history.by_id.get(history.job_of(run) or 0)
        if job is None or run.how == "cancelled" or history.is_lost(run) or history.is_killed(run):
            continue
        is_stored = run.tick == job.result if run.how == "returned" else run.how == "raised" and _is_tried(history, run)
        if not is_stored:
            fact = f"run {run.tick} by worker {run.worker_id} {run.how or 'never ended'}, and nothing tells of it"
            yield Broken("no run is forgotten", job.id, fact)


def _is_tried(history: History, run: Run) -> bool:
    tries = history.tries.get(history.job_of(run) or 0, ())
    return any(each.worker_id == run.worker_id and run.attempt in (None, each.attempt) for each in tries)


def attempts_are_counted(history: History) -> Iterator[Broken]:
    """One after the other up to the maximum; one that was handed back is the only one to have its number twice."""
    rule = "attempts are counted"
    for job in history.jobs:
        most = _most(history, job)
        numbers = [each.attempt for each in history.tries.get(job.id, ())]
        if numbers != list(range(1, len(numbers) + 1)) or (job.status == "complete" and job.attempt != len(numbers)):
            yield Broken(rule, job.id, f"it ended in attempt {job.attempt}, its attempts are {numbers}")
        ran = [run.attempt for run in history.runs_of.get(job.id, ()) if run.attempt and run.how != "cancelled"]
        if max([*numbers, *ran], default=0) > most:
            yield Broken(rule, job.id, f"attempt {max([*numbers, *ran])}, and it has {most}")
        for number in {each for each in ran if ran.count(each) > 1}:
            yield Broken(rule, job.id, f"attempt {number} ran {ran.count(number)} times")


def a_failure_has_a_reason(history: History) -> Iterator[Broken]:
    """No attempt is left, or a dependency failed, or somebody wanted an end, or it had no time left to start."""
    rule = "a failure has a reason"
    for job in history.jobs:
        most = _most(history, job)
        if job.status == "aborted" and job.id not in history.stopped and not _has_expired(history, job):
            yield Broken(rule, job.id, f"it was aborted, and nobody asked for that: {job.error}")
        elif job.status == "failed" and job.attempt < most and not fatal(history, job):
            yield Broken(rule, job.id, f"it failed in attempt {job.attempt} of {most}: {job.error}")


def _has_expired(history: History, job: Job) -> bool:
    asked = history.asked_of(job)
    return asked is not None and asked.may_expire and job.id not in history.runs_of


def fatal(history: History, job: Job) -> list[str]:
    """Its dependencies of which none may fail, and that have not succeeded."""
    asked = history.asked_of(job)
    return [
        name
        for name, is_allowed in (asked.on if asked else {}).items()
        if not is_allowed and (upstream := history.first_of(name)) is not None and upstream.status != "complete"
    ]


def a_series_is_exact(history: History) -> Iterator[Broken]:
    """So many runs as were asked for, each after a success, and none after a failure."""
    for asked in history.asked:
        jobs = history.series.get(asked.name, [])
        if not jobs:
            continue
        ends = [job.status == "complete" for job in jobs]
        left = [job.repeats or 0 for job in jobs]
        expected = list(range(asked.repeats, asked.repeats - len(jobs), -1))
        is_over = left[-1] == 0 or not ends[-1]
        if left != expected or not all(ends[:-1]) or not is_over:
            ended = [f"{job.id} {job.status} +{job.repeats or 0}" for job in jobs]
            yield Broken("a series is exact", jobs[0].id, f"{asked.repeats} repeats were asked for: {ended}")


def every_end_is_told_once(history: History) -> Iterator[Broken]:
    rule = "every end is told once"
    for job in history.jobs:
        callbacks = history.callbacks.get(job.id, [])
        asked = history.asked_of(job)
        name = CALLBACKS.get(job.status or "")
        expected = int(asked is not None and name in asked.told)
        if len(callbacks) != expected:
            yield Broken(rule, job.id, f"{job.status}, with {len(callbacks)} callbacks instead of {expected}")
        for callback in callbacks:
            run = history.accepted(callback)
            if run is not None and run.name != name:
                yield Broken(rule, job.id, f"{job.status}, and {run.name} was called instead of {name}")


def _most(history: History, job: Job) -> int:
    asked = history.asked_of(job)
    return asked.attempts if asked else CALLBACK_ATTEMPTS


def _ids(history: History, asked: Asked) -> list[int]:
    return [job.id for job in history.series[asked.name]]


RULES = (
    nothing_is_lost, nothing_is_made_up, a_key_has_one_job, a_result_is_that_of_its_attempt, no_run_is_forgotten,
    attempts_are_counted, a_failure_has_a_reason, a_series_is_exact, every_end_is_told_once,
)  # fmt: skip
