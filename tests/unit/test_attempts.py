"""Attempts from the claimed row to the outcome, without a database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pgwerk import AsyncWorker, Werk
from pgwerk.store.exchange import Claimed
from pgwerk.worker.attempts import Attempts
from pgwerk.worker.executors.aio import AioExecutor

if TYPE_CHECKING:
    from pgwerk.execution import Outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)


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
    executor = AioExecutor(worker.app, worker, 1, 1.0)
    return Attempts(worker, 1, executor, lambda: None, lambda: None)


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


async def test_an_attempt_that_is_aborted_before_its_first_step_ends(attempts: Attempts) -> None:
    """A task that is cancelled by then takes none: nothing of it would free its slot."""
    attempts.start(claimed(1), claim_no=1)
    attempts.abort([1])
    attempts.start(claimed(2), claim_no=1)
    first, second = await ended(attempts, 2)
    assert (first.job_id, first.status, first.error) == (1, "aborted", "aborted while it ran")
    assert (second.job_id, second.status) == (2, "complete")
    assert attempts.running == 0


async def test_an_attempt_ends_whatever_happens(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise SystemExit("a fault of ours")

    monkeypatch.setattr(Attempts, "_perform", fail)
    attempts.start(claimed(1), claim_no=1)
    (outcome,) = await ended(attempts, 1)
    assert outcome.status == "failed"
    assert (outcome.error or "").endswith("SystemExit: a fault of ours")
    assert attempts.running == 0
