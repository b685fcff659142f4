"""Whatever is done to jobs, in whatever order: after each step the tables say what a small model says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pgwerk import Dependency, EnqueueParams, Repeat, Retry
from pgwerk.sql import statements
from tests.db.portrait import Line
from tests.faults.bench import QUEUES, VERDICTS, Bench, bench, outcome
from tests.faults.model import FINAL, HOUR, PENDING, RUNNING, Job, Model

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from pgwerk.store.exchange import Claimed

EXAMPLES = int(os.environ.get("PGWERK_TEST_EXAMPLES", "8"))
USUAL = settings(
    stateful_step_count=40, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck)
)

hours = st.sampled_from([1, 2]).map(lambda number: number * HOUR)
options = st.fixed_dictionaries(
    {},
    optional={
        "queue": st.sampled_from(QUEUES),
        "priority": st.just(1),
        "group": st.sampled_from(["g", "h"]),
        "key": st.sampled_from(["k", "l"]),
        "delay": hours,
        "ttl": hours,
        "heartbeat": st.just(HOUR),
        "retry": st.sampled_from([2, Retry(2), Retry(3, [0, HOUR])]),
        "repeat": st.sampled_from([Repeat(1), Repeat(2, HOUR), Repeat(3, intervals=[0, HOUR])]),
        "result_ttl": st.sampled_from([0, HOUR]),
        "failure_ttl": st.sampled_from([0, HOUR]),
        "failure_mode": st.just("delete"),
        "on_success": st.just("calls.succeeded"),
        "on_failure": st.just("calls.failed"),
        "on_stopped": st.just("calls.stopped"),
    },
)
STEERED: dict[str, Sequence[str]] = {
    "cancel": PENDING, "abort": RUNNING, "requeue": ("failed", "aborted"), "delete": (*PENDING, *FINAL),
    "touch": RUNNING,
}  # fmt: skip
which = st.integers(0, 9)


@dataclass(eq=False)
class Claim:
    worker: int
    number: int
    row: Claimed


class Steps(RuleBasedStateMachine):
    """Jobs are chosen by number among those that a step is for, or, where there are none, among all."""

    bench: ClassVar[Bench]
    taken: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.claims: list[Claim] = []
        self.history: list[str] = []
        self.has_failed = False

    @initialize()
    def start(self) -> None:
        self.bench.reset()
        self._hire()
        self._hire()

    @rule(options=options, on=st.lists(st.tuples(which, st.booleans()), max_size=2))
    def enqueue(self, options: dict[str, Any], on: list[tuple[int, bool]]) -> None:
        edges = {self._any(number): allow for number, allow in on if self.model.jobs}
        depends_on = [Dependency(job.id, allow_failure=allow) for job, allow in edges.items()]
        asked = EnqueueParams("jobs.work", **options)
        (job,) = self.bench.run(
            self.bench.app.enqueue_many([EnqueueParams("jobs.work", **options, depends_on=depends_on or None)])
        )
        self._log(f"enqueue {options} on {depends_on} → {job and job.id}")
        assert (job is None) == self.model.has_key(asked.key), "a key is taken, or is not"
        if job is not None:
            self.model.enqueue(asked, edges, job.id)

    @precondition(lambda self: self.model.jobs)
    @rule(room=st.sampled_from([1, 2, 50]), worker=which, careful=st.booleans())
    def claim(self, room: int, worker: int, careful: bool) -> None:
        by = self._worker(worker)
        free, living = self.model.free(), by in self.model.living
        number = len(self.history)
        rows = self.bench.claim(by, number, room, careful=careful)
        self._log(f"worker {by} claims {room} → {[row.job_id for row in rows]}")
        self.claims += [Claim(by, number, row) for row in rows]
        taken = {row.job_id for row in rows}
        self.model.claim(by, number, taken)
        assert living or not taken, "a dead worker gets nothing"
        assert len(taken) <= room
        self._check_choice([job for job in free if job.id not in taken and living], taken, room)

    @precondition(lambda self: self.claims)
    @rule(ends=st.lists(st.tuples(which, st.sampled_from(sorted(VERDICTS))), min_size=1, max_size=3))
    def settle(self, ends: list[tuple[int, str]]) -> None:
        """Attempts end, also some that were taken from their worker long ago."""
        by_job: dict[int, tuple[Claim, str]] = {}
        for number, verdict in ends:
            claim = self.claims[-1 - number % len(self.claims)]
            by_job.setdefault(claim.row.job_id, (claim, verdict))
        outcomes = [outcome(claim.row, claim.worker, claim.number, verdict) for claim, verdict in by_job.values()]
        found = self.bench.settle(outcomes)
        self._log(f"settle {[(f'claim {c.number} of {c.row.job_id}', verdict) for c, verdict in by_job.values()]}")
        held = {job: by_job[job.id][1] for job in self.model.jobs if self._is_held(job, by_job)}
        assert found == {job.id for job in held}, f"stored {found}, held were {[job.id for job in held]}"
        for job, verdict in held.items():
            self.model.settle(job, verdict)

    @precondition(lambda self: self.model.jobs)
    @rule(verdicts=st.lists(st.sampled_from(sorted(VERDICTS)), min_size=1, max_size=3))
    def work(self, verdicts: list[str]) -> None:
        """A worker takes jobs and ends them."""
        self.claim(len(verdicts), 1, careful=True)
        self.tables_say_what_the_model_says()
        if self.claims:
            self.settle(list(enumerate(verdicts)))

    @precondition(lambda self: self.model.jobs)
    @rule(what=st.sampled_from(sorted(STEERED)), number=which)
    def steer(self, what: str, number: int) -> None:
        job = self._any(number, STEERED[what])
        doing = getattr(self.bench.app, f"{what}_job")(job.id)
        self._agree(what, job, doing, getattr(self.model, what)(job))

    @precondition(lambda self: self.model.jobs)
    @rule(number=which, priority=st.sampled_from([None, 0, 1]), delay=st.sampled_from([None, 0, 1, 2]))
    def update(self, number: int, priority: int | None, delay: int | None) -> None:
        job = self._any(number, PENDING)
        doing = self.bench.app.update_job(job.id, priority=priority, delay=None if delay is None else delay * HOUR)
        self._agree(f"update {priority=} {delay=}", job, doing, self.model.update(job, priority, delay))

    @precondition(lambda self: self.claims)
    @rule(worker=which)
    def kill_worker(self, worker: int) -> None:
        dead = self._worker(worker)
        if dead in self.model.living:
            self.bench.bury(dead)
            self._log(f"worker {dead} dies")
            self.model.kill(dead)
            self._hire()

    @precondition(lambda self: self.model.jobs)
    @rule(hours=st.sampled_from([1, 2, 30]))
    def time_passes(self, hours: int) -> None:
        self.bench.hours_pass(hours)
        self._log(f"{hours} h pass")
        self.model.now += hours

    @precondition(lambda self: self.model.jobs)
    @rule(what=st.sampled_from(["promote", "sweep"]))
    def maintain(self, what: str) -> None:
        getattr(self.bench, what)()
        self._log(what)
        getattr(self.model, what)()

    @precondition(lambda self: self.model.jobs)
    @rule(status=st.sampled_from(FINAL), days=st.integers(0, 1))
    def purge(self, status: str, days: int) -> None:
        self.bench.run(self.bench.app.purge_jobs([status], days))
        self._log(f"purge {status} {days=}")
        self.model.purge(status, 24 * days)

    @invariant()
    def tables_say_what_the_model_says(self) -> None:
        found = {line.id: line._replace(is_blocked=False) for line in self.bench.portrait()}
        self._name_the_new([line for line in found.values() if line.id not in {job.id for job in self.model.jobs}])
        expected = {job.id: job.line(self.model.now) for job in self.model.jobs}
        wrong = [_difference(found.get(each), expected.get(each)) for each in sorted(found | expected)]
        if wrong := [*filter(None, wrong), *self.bench.broken()]:
            self._fail("; ".join(wrong))

    def teardown(self) -> None:
        """Whatever had happened, everything that can run comes to its end."""
        for _ in range(0 if self.has_failed else 30):
            if not any(job.status not in FINAL for job in self.model.jobs):
                return
            self._run_everything()
        if not self.has_failed:
            self._fail("jobs do not come to an end")

    def _run_everything(self) -> None:
        for step in (
            partial(self.time_passes, 2), partial(self.maintain, "promote"), partial(self.maintain, "sweep"),
            partial(self.work, ["returned"] * 50),
        ):  # fmt: skip
            step()
            self.tables_say_what_the_model_says()

    def _hire(self) -> None:
        self.model.living.add(self.bench.register())

    def _worker(self, number: int) -> int:
        """Mostly one that lives."""
        workers = sorted(self.model.living) if number % 5 else range(1, max(self.model.living) + 1)
        return workers[number % len(workers)]

    def _any(self, number: int, statuses: Sequence[str] = ()) -> Job:
        fit = [job for job in self.model.jobs if job.status in statuses] or self.model.jobs
        return fit[number % len(fit)]

    def _is_held(self, job: Job, by_job: dict[int, tuple[Claim, str]]) -> bool:
        claim, _ = by_job.get(job.id, (None, ""))
        return claim is not None and self.model.is_held(job, claim.worker, claim.number)

    def _check_choice(self, left: list[Job], taken: set[int], room: int) -> None:
        """Nothing that could have run was left, but for want of room; and then not what is more urgent."""
        if len(taken) == room:
            urgent = {job.asked.queue: job.priority for job in self.model.jobs if job.id in taken}
            left = [job for job in left if job.asked.group is None and job.priority > urgent.get(job.asked.queue, 9)]
        elif room < len(self.model.jobs):
            left = []
        groups = {job.asked.group for job in self.model.jobs if job.id in taken}
        left = [job for job in left if job.asked.group is None or job.asked.group not in groups]
        if left:
            self._fail(f"{[job.id for job in left]} could have run, taken were {sorted(taken)}")

    def _agree(self, what: str, job: Job, doing: Coroutine[Any, Any, Any], expected: bool) -> None:
        answer = bool(self.bench.run(doing))
        self._log(f"{what} {job.id} → {answer}")
        if answer != expected:
            self._fail(f"the model says {expected}")

    def _name_the_new(self, lines: list[Line]) -> None:
        """What the database has made by itself, callbacks and next runs, is known by what it is."""
        for job in [job for job in self.model.jobs if job.id == 0]:
            like = next((line for line in lines if line == job.line(self.model.now)._replace(id=line.id)), None)
            if like is not None:
                job.id = like.id
                lines.remove(like)

    def _log(self, text: str) -> None:
        Steps.taken += 1
        self.history.append(f"{len(self.history)}. {text}")

    def _fail(self, what: str) -> None:
        self.has_failed = True
        raise AssertionError("\n".join([what, "after these steps:", *self.history]))


def _difference(found: Line | None, expected: Line | None) -> str:
    if found is None or expected is None:
        return f"there is {'no ' if found is None else ''}{found or expected}"
    pairs = zip(Line._fields, found, expected, strict=True)
    differs = [f"{name} {is_} instead of {said}" for name, is_, said in pairs if is_ != said]
    return f"job {found.id}: {', '.join(differs)}" if differs else ""


@pytest.fixture
def on(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with bench(dsn) as made:
        monkeypatch.setattr(Steps, "bench", made, raising=False)
        monkeypatch.setattr(Steps, "taken", 0, raising=False)
        yield made
    print(f"{Steps.taken} steps")


# Statements with a word changed, as somebody might change it one day.
PLANTED = {
    "an attempt that was interrupted counts": ("send_back", "(h.status = 'retry')::integer", "1"),
    "a failure that is allowed dooms all the same": ("release", "when m.allow_failure or", "when"),
    "a series ends early": ("settle", "j.repeat_remaining > 0 as repeats", "j.repeat_remaining > 1 as repeats"),
}


def test_the_tables_always_say_what_the_model_says(on: Bench) -> None:
    run_state_machine_as_test(Steps, settings=settings(USUAL, max_examples=EXAMPLES, print_blob=True))


@pytest.mark.parametrize("bug", PLANTED)
def test_a_bug_is_found_within_a_few_hundred_steps(bug: str, on: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    name, good, bad = PLANTED[bug]
    statement = statements(on.schema)[name]
    assert good in statement.text
    monkeypatch.setitem(statements(on.schema), name, replace(statement, text=statement.text.replace(good, bad)))
    with pytest.raises(AssertionError, match="after these steps"):
        run_state_machine_as_test(Steps, settings=settings(USUAL, derandomize=True, phases=[Phase.generate]))
    assert Steps.taken < 1000
