"""A job as people see it, and its attempts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import orjson

from pgwerk.errors import NotSerializable, brief, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgwerk.serializers import Serializer


class JobStatus(StrEnum):
    Scheduled = "scheduled"
    Queued = "queued"
    Waiting = "waiting"
    Active = "active"
    Aborting = "aborting"
    Complete = "complete"
    Failed = "failed"
    Aborted = "aborted"

    @property
    def is_final(self) -> bool:
        return self in (JobStatus.Complete, JobStatus.Failed, JobStatus.Aborted)


FINAL = tuple(status for status in JobStatus if status.is_final)
PENDING = (JobStatus.Queued, JobStatus.Scheduled, JobStatus.Waiting)


class ExecutionStatus(StrEnum):
    Active = "active"
    Complete = "complete"
    Failed = "failed"
    Aborted = "aborted"


@dataclass(slots=True)
class Job:
    id: int
    function: str
    """The dotted path of the handler."""

    queue: str
    status: JobStatus
    priority: int
    attempts: int
    """Those that started, the running one included."""

    max_attempts: int
    enqueued_at: datetime
    scheduled_at: datetime | None = None
    """Not before; None: at once."""

    key: str | None = None
    payload: dict[str, Any] | None = None
    """`{"args": [...], "kwargs": {...}}`"""

    result: Any = None
    error: str | None = None
    """The traceback or message of the latest attempt that failed."""

    timeout_secs: float | None = None
    started_at: datetime | None = None
    """Of the latest attempt."""

    completed_at: datetime | None = None
    worker_id: int | None = None
    meta: dict[str, Any] | None = None
    ttl: float | None = None
    retry_intervals: list[float] | None = None
    """Seconds before each retry, the last one repeating; None: 2, 4, 8 … up to 300."""

    group_key: str | None = None
    is_blocked: bool = False
    """Queued, but its group is busy."""

    heartbeat_secs: float | None = None
    touched_at: datetime | None = None
    """Its last sign of life, if it promised some."""

    expires_at: datetime | None = None
    """Before it has started: until when it must have. After it has ended: when its row may go."""

    result_ttl: float | None = None
    failure_ttl: float | None = None
    failure_mode: str = "hold"
    on_success: str | None = None
    """The dotted path of the callback, as for the other two."""

    on_failure: str | None = None
    on_stopped: str | None = None
    repeat_remaining: int | None = None
    """Runs that still follow this one."""

    callback_of: int | None = None
    """The job whose end this one is told of; None: it is a job like any other."""

    schedule_name: str | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any], serializer: Serializer, *, is_one_of_many: bool = False) -> Self:
        """Columns that this version does not know are left alone: the schema may be ahead of the code. What cannot be
        read raises `NotSerializable`; in one of many, that stands in its place.
        """
        values = {name: row[name] for name in _JOB if name in row}
        found = cls(**values, status=JobStatus(row["status"]))
        own = serializer if found.callback_of is None else None  # a callback's payload is written in SQL
        for name, reader in {"payload": own, "result": serializer, "meta": None}.items():
            try:
                setattr(found, name, decoded(values.get(name), name, found.id, reader))
            except NotSerializable as error:
                if not is_one_of_many:
                    raise
                setattr(found, name, error)
        return found


@dataclass(slots=True, kw_only=True)
class JobExecution:
    job_id: int
    attempt: int
    status: ExecutionStatus
    worker_id: int | None
    error: str | None
    result: Any
    started_at: datetime
    completed_at: datetime | None

    @property
    def id(self) -> str:
        return f"{self.job_id}/{self.attempt}"

    @classmethod
    def from_row(cls, row: Mapping[str, Any], serializer: Serializer) -> Self:
        values = {name: row[name] for name in _EXECUTION}
        values["result"] = decoded(values["result"], "result", row["job_id"], serializer)
        return cls(**values, status=ExecutionStatus(row["status"]))


def job_id(job: object) -> int:
    """The number behind what a caller may say for a job; ValueError for what cannot be one."""
    if isinstance(job, Job):
        return job.id
    if isinstance(job, bool) or not isinstance(job, int | str) or int(job) not in _IDS:
        raise ValueError(job)
    return int(job)


def decoded(text: Any, name: str, number: int, serializer: Serializer | None) -> Any:
    """Of a row's column, which anybody may have written. Without a serializer it is plain JSON, whatever the app
    speaks: for people and queries, or by the engine itself.
    """
    if not isinstance(text, str | bytes):
        return text
    try:
        return orjson.loads(text) if serializer is None else serializer.loads(text)
    except Exception as error:
        raise NotSerializable(f"the {name} of job {number} cannot be read: {one_line(error)}") from error


def arguments_in(payload: Any) -> tuple[Sequence[Any], dict[str, Any]]:
    """Of a payload as its serializer gives it back; `NotSerializable` where it holds none."""
    match payload:
        case {"args": list() | tuple() as args, "kwargs": dict() as kwargs} if all(map(_is_text, kwargs)):
            return args, kwargs
    raise NotSerializable(f"{brief(payload)} holds no arguments; was it enqueued by an app with another serializer?")


def _is_text(name: object) -> bool:
    return isinstance(name, str)


_IDS = range(1, 2**63)
_JOB = tuple(field.name for field in fields(Job) if field.name != "status")
_EXECUTION = tuple(field.name for field in fields(JobExecution) if field.name != "status")
