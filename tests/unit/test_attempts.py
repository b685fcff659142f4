"""Attempts from the claimed row to the outcome, without a database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import AsyncWorker, Werk
from pgwerk.store.exchange import Claimed
from pgwerk.worker.attempts import CLEANING, Attempts
from pgwerk.worker.executors.aio import AioExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk.execution import Outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEGUN: asyncio.Event
CLEANED: asyncio.Event
ATTEMPTS: Attempts


async def clean_up() -> None:
    try:
        BEGUN.set()
        await asyncio.sleep(3600)
    finally:
        await CLEANED.wait()


async def hold_up_the_loop() -> None:
    try:
        ATTEMPTS.break_in()  # as a signal does
    finally:
        await asyncio.sleep(0)
        CLEANED.set()


def claimed(job_id: int) -> Claimed:
    row = dict.fromkeys(Claimed._fields) | {
        "job_id": job_id, "attempt": 1, "is_expired": False, "function": "tests.handlers.noop", "max_attempts": 1,
        "payload": b'{"args": [], "kwargs": {}}', "queue": "default", "priority": 0, "seq": job_id,
        "started_at": NOW, "fate": "taken",
    }  # fmt: skip
    return Claimed(**row)  # type: ignore[arg-type]


@pytest.fixture
async def attempts() -> Attempts:
    worker = AsyncWorker(Werk("postgresql:///nowhere"), concurrency=1)
    executor = AioExecutor(worker.app, worker, worker.config)
    return Attempts(worker, 1, executor, lambda: None, lambda: None)


@pytest.fixture
async def cleaning(attempts: Attempts) -> Claimed:
    """A job that runs, and will clean up for as long as the test wants."""
    global BEGUN, CLEANED
    BEGUN, CLEANED = asyncio.Event(), asyncio.Event()
    row = claimed(1)._replace(function="tests.unit.test_attempts.clean_up", attempt=1, max_attempts=2)
    attempts.start(row, claim_no=1)
    await BEGUN.wait()
    return row


async def ended(attempts: Attempts, jobs: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    async with asyncio.timeout(10):
        while len(outcomes) < jobs:
            await asyncio.sleep(0)
            outcomes += attempts.take_outcomes()
    return outcomes


async def test_as_many_at_once_as_there_are_slots_and_in_order(attempts: Attempts) -> None:
    for job_id in (3, 1, 2):
        attempts.start(claimed(job_id), claim_no=1)
    assert attempts.running == 1
    assert [outcome.job_id for outcome in await ended(attempts, 3)] == [3, 1, 2]


async def test_nothing_but_an_attempt_is_broken_into(attempts: Attempts, cleaning: Claimed) -> None:
    CLEANED.set()
    attempts.break_in()
    attempts.interrupt()
    assert [outcome.status for outcome in await ended(attempts, 1)] == ["back"]


async def test_what_is_broken_into_cleans_up_undisturbed_and_the_others_end_too(attempts: Attempts) -> None:
    global ATTEMPTS, CLEANED
    ATTEMPTS, CLEANED = attempts, asyncio.Event()
    attempts.start(claimed(1)._replace(function="tests.unit.test_attempts.hold_up_the_loop"), claim_no=1)
    attempts.start(claimed(2), claim_no=1)
    outcomes = await ended(attempts, 2)
    assert [(outcome.job_id, outcome.status) for outcome in outcomes] == [(2, "unstarted"), (1, "back")]
    assert CLEANED.is_set()


async def test_an_attempt_that_is_aborted_before_its_first_step_ends(attempts: Attempts) -> None:
    """A task that is cancelled by then takes none: nothing of it would free its slot."""
    attempts.start(claimed(1), claim_no=1)
    attempts.abort({1: 1})
    attempts.start(claimed(2), claim_no=1)
    first, second = await ended(attempts, 2)
    assert (first.job_id, first.status, first.error) == (1, "aborted", "aborted while it ran")
    assert (second.job_id, second.status) == (2, "complete")
    assert attempts.running == 0


async def test_a_job_that_is_aborted_before_its_claim_is_read_does_not_begin(attempts: Attempts) -> None:
    attempts.abort({1: 2})
    attempts.start(claimed(1), claim_no=2)
    assert attempts.running == 0
    (outcome,) = attempts.take_outcomes()
    assert (outcome.claim, outcome.status, outcome.error) == ((1, 2), "aborted", "aborted before it ran")


async def test_a_wish_to_end_a_job_is_for_one_claim(attempts: Attempts) -> None:
    """It may come again under another one: requeued, or taken back from us."""
    attempts.abort({1: 2})
    attempts.start(claimed(1), claim_no=3)
    (outcome,) = await ended(attempts, 1)
    assert (outcome.claim, outcome.status) == ((1, 3), "complete")


@pytest.mark.parametrize(
    ("tell", "last"),
    [
        (lambda attempts: attempts.lose(1, claim_no=1), []),
        (lambda attempts: attempts.abort({1: 1}), [((1, 1), "aborted")]),
    ],
)
async def test_a_job_that_comes_again_while_its_last_attempt_cleans_up_is_handed_back(
    attempts: Attempts, cleaning: Claimed, tell: Callable[[Attempts], None], last: list[Any]
) -> None:
    tell(attempts)
    attempts.start(cleaning._replace(attempt=2), claim_no=2)
    (back,) = await ended(attempts, 1)
    assert (back.claim, back.status, back.delay) == ((1, 2), "unstarted", CLEANING)
    attempts.decline(cleaning._replace(attempt=2), claim_no=3)
    (back,) = await ended(attempts, 1)
    assert (back.claim, back.status, back.delay) == ((1, 3), "unstarted", 0.0)
    CLEANED.set()
    while attempts.running:
        await asyncio.sleep(0)
    assert [(outcome.claim, outcome.status) for outcome in attempts.take_outcomes()] == last


async def test_an_interrupted_attempt_whose_job_comes_again_goes_back_under_the_new_claim(
    attempts: Attempts, cleaning: Claimed
) -> None:
    attempts.interrupt()
    attempts.decline(cleaning._replace(attempt=2), claim_no=2)
    assert not attempts.has_outcomes
    CLEANED.set()
    (back,) = await ended(attempts, 1)
    assert (back.claim, back.status) == ((1, 2), "back")


async def test_an_attempt_ends_whatever_happens(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise SystemExit("a fault of ours")

    monkeypatch.setattr(Attempts, "_perform", fail)
    attempts.start(claimed(1), claim_no=1)
    (outcome,) = await ended(attempts, 1)
    assert outcome.status == "failed"
    assert (outcome.error or "").endswith("SystemExit: a fault of ours")
    assert attempts.running == 0
