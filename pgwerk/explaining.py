"""Why a job runs, does not run, or has ended, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from pgwerk.errors import headline
from pgwerk.job import PENDING, Job, JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgwerk.serializers import Serializer


MOST_COUNTED = 10_000  # more are not counted: so many or more


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    job: Job
    reasons: list[str]
    """The first is the nearest."""


def explained(row: Mapping[str, Any], serializer: Serializer) -> Explanation:
    """Of a row of the statement `why`."""
    job = Job.from_row(row, serializer)
    return Explanation(job=job, reasons=list(_reasons(job, row)))


def _reasons(job: Job, row: Mapping[str, Any]) -> Iterator[str]:
    if job.status in PENDING and row["paused_at"]:
        yield f"its queue {job.queue!r} is paused since {_moment(row['paused_at'])}"
    match job.status:
        case JobStatus.Scheduled:
            yield _due(job)
        case JobStatus.Waiting:
            yield from (f"it waits for job {_named(each)}" for each in orjson.loads(row["unmet"] or "[]"))
        case JobStatus.Queued if job.is_blocked:
            yield _blocked(job, row)
        case JobStatus.Queued:
            yield _in_line(row)
        case JobStatus.Active | JobStatus.Aborting:
            yield _running(job, row)
        case _:
            yield f"it has ended: {job.status} at {_moment(job.completed_at)}" + _because(job.error)
    if job.status in PENDING and not row["workers"]:
        yield f"no live worker takes jobs from its queue {job.queue!r}"
    if job.status in (JobStatus.Queued, JobStatus.Scheduled) and job.attempts:
        yield f"attempt {job.attempts} of {job.max_attempts} has failed" + _because(job.error)


def _due(job: Job) -> str:
    if job.scheduled_at is None or job.scheduled_at <= datetime.now(UTC):
        return f"it has been due since {_moment(job.scheduled_at)}, and is about to be queued by a worker"
    return f"it is due at {_moment(job.scheduled_at)}"


def _blocked(job: Job, row: Mapping[str, Any]) -> str:
    group = f"its group {job.group_key!r} is busy"
    if row["rival_id"] is None:
        return f"{group}, and about to be free"
    rival = _named({"id": row["rival_id"], "function": row["rival_function"], "status": row["rival_status"]})
    if row["rival_started_at"] is None or row["rival_worker"] is None:
        return f"{group}: before it comes job {rival}"
    return f"{group}: job {rival} on worker {row['rival_worker']} since {_moment(row['rival_started_at'])}"


def _in_line(row: Mapping[str, Any]) -> str:
    ahead, rate = row["ahead"] or 0, 0.0 if row["paused_at"] else row["rate"] or 0.0
    if not ahead:
        return "it is the next of its queue"
    count = f"{ahead}" if ahead < MOST_COUNTED else f"{MOST_COUNTED} or more"
    start = f"; at the pace of the last minute it starts in about {ahead / rate:.0f} s" if rate else ""
    return f"{count} jobs of its queue come before it{start}"


def _running(job: Job, row: Mapping[str, Any]) -> str:
    asked = ", and somebody has asked for its end" if job.status == JobStatus.Aborting else ""
    where = f"worker {row['worker_name'] or job.worker_id}"
    return f"it runs on {where} since {_moment(job.started_at)}, attempt {job.attempts} of {job.max_attempts}{asked}"


def _named(job: Mapping[str, Any]) -> str:
    return f"{job['id']} ({job['function']}), which is {job['status']}"


def _because(error: str | None) -> str:
    return f": {headline(error)}" if error else ""


def _moment(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment else "an unknown time"
