"""Handlers that block, leak, fork, babble, leave, and kill the process that they are in."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import EnqueueParams, JobStatus, Retry, Werk
from tests.faults import misdeeds
from tests.faults.crew import HASTY, PATIENCE
from tests.faults.load import CALM, QUICK, ROUNDS, Load
from tests.faults.producing import Producer
from tests.postgres import rows
from tests.workplace import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.history.log import Log

pytestmark = pytest.mark.timeout(3600)
KINDS = ("async", "thread", "process", "fork") if ROUNDS > 1 else ("async", "process")
IN_PROCESSES = ("process", "fork")
BLOCKED = PATIENCE * 1.5  # seconds; longer than anybody's patience
BORNE: dict[Callable[..., Any], list[Any]] = {
    misdeeds.block: [BLOCKED],
    misdeeds.leak: [100],
    misdeeds.babble: [],
    misdeeds.fork: [],
    misdeeds.fork_by_library: [],
    misdeeds.fork_and_return: [],
    misdeeds.fork_and_return_in_the_loop: [],
}
RAISED = {
    misdeeds.leave: "SystemExit: 3",
    misdeeds.leave_the_loop: "SystemExit: 3",
    misdeeds.leave_in_a_task: "SystemExit: 3",
    misdeeds.leave_in_a_thread: "ValueError: the thread has left",
    misdeeds.interrupt: "KeyboardInterrupt",
    misdeeds.end_the_generator: "GeneratorExit",
}
DEADLY = {
    misdeeds.leave_at_once: "the process of the attempt ended with exit status 3",
    misdeeds.close_everything: "the process of the attempt ended with exit status 1",
    misdeeds.poison: "the process of the attempt was ended by signal SIGKILL (out of memory?)",
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_misdeed_ends_its_attempt_alone(
    app: Werk, dsn: str, schema: str, log: Log, tmp_path: Path, kind: str
) -> None:
    is_apart = kind in IN_PROCESSES
    # a machine that is too busy for a hasty worker takes an attempt from it; else the first one decides
    again = Retry(max=3, intervals=0) if PATIENCE < HASTY and not is_apart else 1
    options = (*(CALM if is_apart else QUICK), "--worker-type", kind, "--processes", "2", "--shutdown-timeout", "5")
    worker = Worker(dsn, schema, tmp_path / "log", *options)
    try:
        async with Load(app, log, dsn, pause=0.3) as load:
            producer = Producer(app, log, "misdeeds")
            for _ in range(ROUNDS):
                borne = [EnqueueParams(misdeed, arguments, retry=again) for misdeed, arguments in BORNE.items()]
                assert await _ends(app, producer, *borne) == [(JobStatus.Complete, "")] * len(BORNE)
                raised = await _ends(app, producer, *[EnqueueParams(misdeed, retry=again) for misdeed in RAISED])
                assert raised == [(JobStatus.Failed, words) for words in RAISED.values()]
            assert "ended with" not in worker.log.read_text(errors="replace")
            deadly = [load.chance.choice([*DEADLY.items()])] if ROUNDS == 1 else [*DEADLY.items()] * ROUNDS
            for misdeed, obituary in deadly:
                words = obituary if is_apart else "lost"
                assert await _ends(app, producer, EnqueueParams(misdeed)) == [(JobStatus.Failed, words)]
            recovery = await load.recovery()
            await load.drained()
            assert worker.stop() == 0
    finally:
        worker.kill()
    for (pid,) in rows(dsn, f"select substring(name from '[0-9]+$')::integer from {schema}.worker"):
        log.fault("misdeeds", pid)
    print(f"{kind}: {ROUNDS} rounds, recovery {recovery:.1f} s: {load.prove()}")
    deaths = worker.log.read_text(errors="replace").count("another one takes its place")
    assert deaths == (0 if is_apart else len(deadly))


async def _ends(app: Werk, producer: Producer, *params: EnqueueParams) -> list[tuple[Any, ...]]:
    """How they end; of an error the last line."""
    for each in params:
        each.priority = 1  # before all that has piled up
    jobs = await producer.enqueue(*params)
    assert jobs is not None
    ended = await asyncio.gather(*[app.wait_for(job, timeout=40 + 2 * PATIENCE) for job in jobs if job is not None])
    errors = [re.sub(r"worker \S+ lost$", "lost", (job.error or "").rpartition("\n")[2]) for job in ended]
    return [(job.status, error) for job, error in zip(ended, errors, strict=True)]
