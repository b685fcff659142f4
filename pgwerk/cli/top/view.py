"""What is looked at, all at once, and how it reads as rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pgwerk.cli.output import since
from pgwerk.cli.queues import pace, queue_row
from pgwerk.errors import headline
from pgwerk.job import Job, JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.app import Werk
    from pgwerk.overview import QueueInfo, Throughput, WorkerInfo

MOST = 100  # jobs of a kind: more than any screen has lines
MINUTES = 60
ALIVE = "alive"


@dataclass(frozen=True, slots=True)
class View:
    queues: Sequence[QueueInfo]
    workers: Sequence[WorkerInfo]
    running: Sequence[Job]
    failed: Sequence[Job]
    minutes: Sequence[Throughput]

    @property
    def rate(self) -> float:
        """Jobs that end in a second."""
        return sum(queue.rate for queue in self.queues)

    @property
    def ended(self) -> list[float]:
        """In each minute, the present one last."""
        counts = {each.minute: each.ended for each in self.minutes}
        now = max(counts, default=datetime.now(UTC))
        return [float(counts.get(now - timedelta(minutes=back), 0)) for back in reversed(range(MINUTES))]

    @property
    def summary(self) -> str:
        alive = [worker for worker in self.workers if worker.state == ALIVE]
        queued, slots = sum(queue.queued for queue in self.queues), sum(worker.concurrency for worker in alive)
        more = "+" if any("queued" in queue.at_least for queue in self.queues) else ""
        return (
            f"queued {queued}{more} · at work {sum(worker.running for worker in alive)} · "
            f"slots {slots} of {len(alive)} workers · ended {pace(self.rate)}/s"
        )


async def look(app: Werk) -> View:
    """One after the other: somebody who looks takes one connection, not five."""
    return View(
        await app.list_queues(),
        await app.list_workers(),
        await app.list_jobs(status=JobStatus.Active, limit=MOST),
        await app.list_jobs(status=JobStatus.Failed, limit=MOST),
        await app.get_throughput_history(MINUTES),
    )


def queue_rows(view: View) -> dict[str, Sequence[object]]:
    return {queue.queue: list(queue_row(queue).values()) for queue in view.queues}


def worker_rows(view: View) -> dict[str, Sequence[object]]:
    """The living first."""
    ordered = sorted(view.workers, key=lambda worker: (worker.state != ALIVE, -worker.id))
    return {
        str(each.id): [
            each.id, each.name, each.kind, each.state, f"{each.running}/{each.concurrency}", ", ".join(each.queues),
            since(each.started_at),
        ]
        for each in ordered[:MOST]
    }  # fmt: skip


def running_rows(view: View) -> dict[str, Sequence[object]]:
    names = {worker.id: worker.name for worker in view.workers}
    return {
        str(job.id): [
            job.id, job.function, job.queue, names.get(job.worker_id or 0, job.worker_id), since(job.started_at),
            f"{job.attempts} of {job.max_attempts}",
        ]
        for job in view.running
    }  # fmt: skip


def failed_rows(view: View) -> dict[str, Sequence[object]]:
    return {
        str(job.id): [job.id, job.function, job.queue, since(job.completed_at), headline(job.error)]
        for job in view.failed
    }
