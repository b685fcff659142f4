"""The proof is tested too: one lawful history, and what is wrong with it after one thing in it was changed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.faults.history import RULES, History, broken
from tests.faults.history.facts import Asked, Attempt, Fault, Job, Run, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

DAWN = datetime(2026, 1, 1, tzinfo=UTC)
FIRST, SECOND = 1, 2  # workers; the first one is killed
KILLED = 111  # its process
LOST = "worker a:111 lost"


def at(second: float) -> datetime:
    return DAWN + timedelta(seconds=second)


def lawful() -> History:
    """Two of a group, the first of which is lost with its worker and runs again; what depends on it; a series of two;
    one that fails twice; a key that is asked for twice, and a job that was rolled back. Everybody is told.
    """
    told = ["on_success", "on_failure"]
    return History(
        asked=[
            Asked(name="lost", group="g", attempts=2, call="1", tick=1, answer_tick=2, outcome="committed", job_id=1),
            Asked(name="next", group="g", call="1", tick=1, answer_tick=2, outcome="committed", job_id=2, told=told),
            Asked(name="after", on={"lost": False}, call="2", tick=3, answer_tick=4, outcome="committed", job_id=3),
            Asked(name="never", on={"fails": False}, call="2", tick=3, answer_tick=4, outcome="committed", job_id=4),
            Asked(name="series", repeats=1, call="3", tick=5, outcome="unknown"),
            Asked(name="fails", attempts=2, call="2", tick=3, answer_tick=4, outcome="committed", job_id=7, told=told),
            Asked(name="holder", key="k", call="4", tick=6, answer_tick=7, outcome="committed", job_id=8),
            Asked(name="loser", key="k", call="5", tick=8, answer_tick=9, outcome="committed"),
            Asked(name="undone", call="6", tick=10, answer_tick=11, outcome="rolled back"),
        ],
        jobs=[
            Job(id=1, name="lost", status="complete", attempt=2, worker_id=SECOND, result=32),
            Job(id=2, name="next", status="complete", attempt=1, worker_id=SECOND, result=40),
            Job(id=3, name="after", status="complete", attempt=1, worker_id=SECOND, result=50),
            Job(id=4, name="never", status="failed", error="dependency 7 (work) failed"),
            Job(id=5, name="series", status="complete", attempt=1, worker_id=SECOND, repeats=1, result=60),
            Job(id=6, name="series", status="complete", attempt=1, worker_id=SECOND, repeats=0, result=62),
            Job(id=7, name="fails", status="failed", attempt=2, worker_id=SECOND, error="on purpose"),
            Job(id=8, name="holder", key="k", status="complete", attempt=1, worker_id=SECOND, result=80),
            Job(id=9, callback_of=2, status="complete", attempt=1, worker_id=SECOND, result=90),
            Job(id=10, callback_of=7, status="complete", attempt=1, worker_id=SECOND, result=92),
        ],
        attempts=[
            Attempt(job_id=1, attempt=1, worker_id=FIRST, error=LOST, started_at=at(1), finished_at=at(20)),
            Attempt(job_id=1, attempt=2, worker_id=SECOND, error=None, started_at=at(21), finished_at=at(22)),
            Attempt(job_id=2, attempt=1, worker_id=SECOND, error=None, started_at=at(22), finished_at=at(23)),
            Attempt(job_id=3, attempt=1, worker_id=SECOND, error=None, started_at=at(23), finished_at=at(24)),
            Attempt(job_id=5, attempt=1, worker_id=SECOND, error=None, started_at=at(1), finished_at=at(2)),
            Attempt(job_id=6, attempt=1, worker_id=SECOND, error=None, started_at=at(2), finished_at=at(3)),
            Attempt(job_id=7, attempt=1, worker_id=SECOND, error="on purpose", started_at=at(1), finished_at=at(2)),
            Attempt(job_id=7, attempt=2, worker_id=SECOND, error="on purpose", started_at=at(4), finished_at=at(5)),
            Attempt(job_id=8, attempt=1, worker_id=SECOND, error=None, started_at=at(1), finished_at=at(2)),
            Attempt(job_id=9, attempt=1, worker_id=SECOND, error=None, started_at=at(23), finished_at=at(24)),
            Attempt(job_id=10, attempt=1, worker_id=SECOND, error=None, started_at=at(5), finished_at=at(6)),
        ],
        runs=[
            Run(tick=30, name="lost", job_id=1, attempt=1, worker_id=FIRST),
            Run(tick=32, name="lost", job_id=1, attempt=2, worker_id=SECOND, end_tick=33, how="returned"),
            Run(tick=38, name="next", job_id=2, attempt=1, worker_id=SECOND, end_tick=39, how="cancelled"),
            Run(tick=40, name="next", job_id=2, attempt=1, worker_id=SECOND, end_tick=41, how="returned"),
            Run(tick=50, name="after", job_id=3, attempt=1, worker_id=SECOND, end_tick=51, how="returned"),
            Run(tick=60, name="series", job_id=5, attempt=1, worker_id=SECOND, end_tick=61, how="returned"),
            Run(tick=62, name="series", job_id=6, attempt=1, worker_id=SECOND, end_tick=63, how="returned"),
            Run(tick=70, name="fails", job_id=7, attempt=1, worker_id=SECOND, end_tick=71, how="raised"),
            Run(tick=72, name="fails", job_id=7, attempt=2, worker_id=SECOND, end_tick=73, how="raised"),
            Run(tick=80, name="holder", job_id=8, attempt=1, worker_id=SECOND, end_tick=81, how="returned"),
            Run(tick=90, name="on_success", callback_of=2, worker_id=SECOND, end_tick=91, how="returned"),
            Run(tick=92, name="on_failure", callback_of=7, worker_id=SECOND, end_tick=93, how="returned"),
        ],
        workers=[Worker(id=FIRST, pid=KILLED, state="dead"), Worker(id=SECOND, pid=222)],
        faults=[Fault(at=at(2), what="SIGKILL", pid=KILLED)],
    )  # fmt: skip


def test_a_lawful_history_breaks_no_rule() -> None:
    assert broken(lawful()) == []


def _drop_job(number: int) -> Callable[[History], None]:
    return lambda history: history.jobs.remove(_job(history, number))


def _job(history: History, number: int) -> Job:
    return next(job for job in history.jobs if job.id == number)


def _run(history: History, tick: int) -> Run:
    return next(run for run in history.runs if run.tick == tick)


def _asked(history: History, name: str) -> Asked:
    return next(asked for asked in history.asked if asked.name == name)


def _set(find: Callable[..., object], which: int | str, **values: object) -> Callable[[History], None]:
    def tamper(history: History) -> None:
        found = find(history, which)
        for name, value in values.items():
            setattr(found, name, value)

    return tamper


def _add_job(**values: object) -> Callable[[History], None]:
    return lambda history: history.jobs.append(Job(**values))  # type: ignore[arg-type]


def _add_run(**values: object) -> Callable[[History], None]:
    return lambda history: history.runs.append(Run(**values))  # type: ignore[arg-type]


def _forget_the_kill(history: History) -> None:
    history.faults.clear()


def _take_the_group_too_early(history: History) -> None:
    """While the killed worker's attempt still stands."""
    _run(history, 38).tick = 28
    history.attempts[2].started_at, history.attempts[2].finished_at = at(5), at(6)


def _expire_after_a_run(history: History) -> None:
    _asked(history, "after").may_expire = True
    _set(_job, 3, status="aborted", error="expired")(history)


def _lose_the_attempt(history: History) -> None:
    """As a rescue that does not count what was lost."""
    history.attempts.pop(0)


TAMPERED: list[tuple[Callable[[History], None], str]] = [
    (_drop_job(3), "nothing is lost: job after: committed as 3, and there is no such job"),
    (_set(_job, 3, status=None), "nothing is lost: job 3: after has not ended"),
    (
        lambda history: history.misplaced.append((3, ["active", "finished"])),
        "nothing is lost: job 3: it is in ['active', 'finished'], and not in one place",
    ),
    (_add_job(id=20, name="undone"), "nothing is made up: job undone: rolled back without it, and there is job [20]"),
    (_add_run(tick=99, name="undone", job_id=20), "nothing is made up: job 20: undone ran, and there is no such job"),
    (_add_job(id=20, name="loser"), "nothing is made up: job loser: committed without it, and there is job [20]"),
    (_add_job(id=20), "nothing is made up: job 20: nobody has asked for it"),
    (_add_job(id=20, name="loser", key="k"), "a key has one job: job 20: the key k is that of [8, 20]"),
    (_drop_job(8), "a key has one job: job loser: committed, and no job has the key k"),
    (
        _set(_job, 1, result=30),
        "a result is that of its attempt: job 1: it is complete by run 30, which never ended",
    ),
    (
        _set(_job, 1, result=7),
        "a result is that of its attempt: job 1: it is complete with 7, which no run of it has returned",
    ),
    (
        _set(_run, 32, worker_id=FIRST, attempt=1),
        "a result is that of its attempt: job 1: attempt 2 of worker 2 is complete with the result of attempt 1 of 1",
    ),
    (
        _add_run(tick=99, name="after", job_id=3, attempt=1, worker_id=SECOND, end_tick=100, how="returned"),
        "no run is forgotten: job 3: run 99 by worker 2 returned, and nothing tells of it",
    ),
    (
        _add_run(tick=99, name="after", job_id=3, attempt=1, worker_id=SECOND),
        "no run is forgotten: job 3: run 99 by worker 2 never ended, and nothing tells of it",
    ),
    (_lose_the_attempt, "attempts are counted: job 1: it ended in attempt 2, its attempts are [2]"),
    (_set(_asked, "lost", attempts=1), "attempts are counted: job 1: attempt 2, and it has 1"),
    (
        _add_run(tick=99, name="after", job_id=3, attempt=1, worker_id=SECOND, end_tick=100, how="raised"),
        "attempts are counted: job 3: attempt 1 ran 2 times",
    ),
    (_set(_asked, "fails", attempts=3), "a failure has a reason: job 7: it failed in attempt 2 of 3: on purpose"),
    (
        _set(_job, 3, status="aborted", error="why"),
        "a failure has a reason: job 3: it was aborted, and nobody asked for that: why",
    ),
    (_expire_after_a_run, "a failure has a reason: job 3: it was aborted, and nobody asked for that: expired"),
    (
        _drop_job(6),
        "a series is exact: job 5: 1 repeats were asked for: ['5 complete +1']",
    ),
    (
        _add_job(id=20, name="series", status="complete"),
        "a series is exact: job 5: 1 repeats were asked for: ['5 complete +1', '6 complete +0', '20 complete +0']",
    ),
    (
        _set(_job, 5, status="failed"),
        "a series is exact: job 5: 1 repeats were asked for: ['5 failed +1', '6 complete +0']",
    ),
    (
        _add_job(id=20, name="after", status="complete"),
        "a series is exact: job 3: 0 repeats were asked for: ['3 complete +0', '20 complete +0']",
    ),
    (_drop_job(9), "every end is told once: job 2: complete, with 0 callbacks instead of 1"),
    (
        _add_job(id=20, callback_of=2, status="complete"),
        "every end is told once: job 2: complete, with 2 callbacks instead of 1",
    ),
    (_set(_asked, "next", told=[]), "every end is told once: job 2: complete, with 1 callbacks instead of 0"),
    (
        _set(_run, 92, name="on_success"),
        "every end is told once: job 7: failed, and on_success was called instead of on_failure",
    ),
    (_set(_run, 32, end_tick=45), "never two of a group: job 2: it ran beside job 1, both of g"),
    (_take_the_group_too_early, "never two of a group: job 2: it was active beside job 1, both of g"),
    (_set(_run, 38, tick=31, end_tick=31), "a group keeps its order: job 1: job 2 of g ran before it"),
    (_set(_run, 50, tick=32, end_tick=33), "dependents come after: job 3: it ran before job 1 had ended"),
    (
        _set(_asked, "never", name="never", on={}),
        "a failure has a reason: job 4: it failed in attempt 0 of 1: dependency 7 (work) failed",
    ),
    (
        _add_run(tick=99, name="never", job_id=4, attempt=1, worker_id=SECOND, end_tick=100, how="cancelled"),
        "dependents come after: job 4: it ran, and ['fails'] had not succeeded",
    ),
    (
        _forget_the_kill,
        "only the dead lose jobs: job 1: attempt 1 was taken from worker 1, to which nothing had happened",
    ),
]


@pytest.mark.parametrize(("tamper", "words"), TAMPERED, ids=[words.split(":")[0] for _, words in TAMPERED])
def test_what_is_wrong_is_named_with_its_job_and_rule(tamper: Callable[[History], None], words: str) -> None:
    history = lawful()
    tamper(history)
    assert words in map(str, broken(history))


def test_every_rule_has_been_broken() -> None:
    named = {words.split(":")[0] for _, words in TAMPERED}
    assert named == {rule.__name__.replace("_", " ") for rule in RULES}


@pytest.mark.parametrize("outcome", ["unknown", "committed"])
def test_an_unknown_outcome_may_be_either(outcome: str) -> None:
    history = lawful()
    asked = Asked(name="perhaps", call="9", tick=12, outcome=outcome, job_id=20)
    history.asked.append(asked)
    assert len(broken(history)) == (outcome == "committed")


def test_who_is_stopped_or_expires_may_be_aborted() -> None:
    history = lawful()
    _set(_job, 3, status="aborted", error="aborted while it ran", result=None)(history)
    _set(_run, 50, how="cancelled")(history)
    _set(_job, 4, status="aborted", error="expired")(history)
    assert [each.job for each in broken(history)] == [3, 4]
    history.stopped.add(3)
    _asked(history, "never").may_expire = True
    assert broken(history) == []


def test_an_attempt_before_the_lost_one_of_the_same_worker_has_been() -> None:
    """While its job waits for the next one, another of its group may start."""
    history = lawful()
    _set(_asked, "lost", attempts=3)(history)
    _set(_job, 1, attempt=3)(history)
    _set(_run, 30, attempt=2)(history)
    _set(_run, 32, attempt=3)(history)
    history.attempts[0].attempt, history.attempts[1].attempt = 2, 3
    failed = Attempt(job_id=1, attempt=1, worker_id=FIRST, error="failed", started_at=at(0), finished_at=at(0.1))
    history.attempts.insert(0, failed)
    _add_run(tick=20, name="lost", job_id=1, attempt=1, worker_id=FIRST, end_tick=21, how="raised")(history)
    _set(_run, 38, tick=24, end_tick=25)(history)
    assert broken(history) == []


@pytest.mark.parametrize("how", [None, "returned"])
def test_what_is_stopped_together_with_its_process_may_have_come_to_any_point(how: str | None) -> None:
    history = lawful()
    history.stopped.add(2)
    _set(_job, 2, status="aborted", error="aborted while it ran", result=None)(history)
    _set(_asked, "next", told=[])(history)
    _drop_job(9)(history)
    history.runs.remove(_run(history, 90))
    _set(_run, 40, how=how, end_tick=how and 41)(history)
    assert [each.rule for each in broken(history)] == ["no run is forgotten"]
    second = Worker(id=SECOND, pid=222, kind="ProcessWorker")
    assert broken(dataclasses.replace(history, workers=[history.workers[0], second])) == []
