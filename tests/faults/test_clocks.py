"""The clocks of workers are an hour fast or slow: nothing comes early or late, and nobody is taken for dead."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgwerk import EnqueueParams, JobStatus, Repeat, Retry, Werk
from tests.faults import acts
from tests.faults.load import CALM, ROUNDS, Load
from tests.faults.producing import Producer
from tests.postgres import rows
from tests.workplace import workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.history.log import Log

HOUR = 3600
RETRY = 1  # seconds
LATE = timedelta(minutes=1)  # on a busy machine; wrong by a clock would be wrong by an hour
_DUE = "select id, scheduled_at from job where scheduled_at is not null"
_RESTS = "select min(f.started_at - a.finished_at) from attempt a join finished f using (job_id)"
_CLOCK = "import time, datetime; print(time.time(), datetime.datetime.now(datetime.timezone.utc).timestamp())"


def wrong_clocks() -> Iterator[dict[str, str]]:
    """As environments of a process; those of the whole process only where libfaketime is installed."""
    for off in (HOUR, -HOUR):
        yield {"PYTHONPATH": str(Path(__file__).parent / "wrong_clock"), "PGWERK_TEST_CLOCK": str(off)}
    if (command := shutil.which("faketime")) is not None:
        for off in (HOUR, -HOUR):
            said = subprocess.run([command, "-f", f"{off:+}", "env"], check=True, capture_output=True, text=True).stdout
            preload = dict(line.split("=", 1) for line in said.splitlines())["LD_PRELOAD"]
            yield {"LD_PRELOAD": preload, "FAKETIME": f"{off:+}"}


def test_they_are_wrong() -> None:
    for environment in wrong_clocks():
        said = subprocess.run([sys.executable, "-c", _CLOCK], env=environment, check=True, capture_output=True).stdout
        off = [round((float(word) - datetime.now(UTC).timestamp()) / HOUR) for word in said.split()]
        assert off in ([1, 1], [-1, -1]), environment


async def test_wrong_clocks_change_nothing(
    app: Werk, dsn: str, schema: str, log: Log, query: Any, tmp_path: Path
) -> None:
    crew = []
    with ExitStack() as stack:
        for number, environment in enumerate(wrong_clocks()):
            path = tmp_path / f"log.{number}"
            crew += stack.enter_context(workers(1, dsn, schema, path, *CALM, environment=environment))
        async with Load(app, log, dsn) as load:
            for worker in crew:
                await load.recovery(pid=worker.process.pid)
            far = await app.enqueue(acts.work, _delay=HOUR / 2)
            assert far is not None
            producer = Producer(app, log, "clocks")
            for _ in range(ROUNDS):
                jobs = await producer.enqueue(*_timed())
                assert jobs is not None
                await asyncio.gather(*[app.wait_for(job) for job in jobs if job is not None])
            assert (await app.get_job(far)).status == JobStatus.Scheduled
            assert await app.delete_job(far)
            await load.drained()
        assert [worker.stop() for worker in crew] == [0] * len(crew)
    print(f"{len(crew)} wrong clocks: {load.prove()}")
    started = dict(rows(log.dsn, "select job_id, min(at) from run group by 1"))
    late = [started[job_id] - due for job_id, due in query(_DUE)]
    assert timedelta(0) <= min(late) <= max(late) <= LATE
    assert timedelta(0) <= query(_RESTS)[0][0] - timedelta(seconds=RETRY) <= LATE
    assert query("select state, count(*) from worker group by 1") == [("stopped", len(crew))]
    assert "Traceback" not in "".join(worker.log.read_text() for worker in crew)


def _timed() -> list[EnqueueParams]:
    """Whatever has to do with time, and is not an hour away from it."""
    return [
        EnqueueParams(acts.work, delay=1.0),
        EnqueueParams(acts.work, at=datetime.now(UTC) + timedelta(seconds=1)),
        EnqueueParams(acts.work, repeat=Repeat(1, interval=1)),
        EnqueueParams(acts.work, [0.0, 1], retry=Retry(2, intervals=RETRY)),
        EnqueueParams(acts.work, [1.5], heartbeat=0.5, timeout=HOUR / 2),
        EnqueueParams(acts.work, ttl=HOUR / 2, result_ttl=HOUR / 2),
    ]
