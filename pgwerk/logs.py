"""Events as log lines."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from logging import ERROR, INFO, WARNING
from typing import NamedTuple, TextIO

from pgwerk import events
from pgwerk.errors import InvalidOption, brief, printable

logger = logging.getLogger("pgwerk")

_LINES: dict[type[events.Event], tuple[int, str]] = {
    events.WorkerStarted: (
        INFO,
        (
            "worker {0.name} ({0.worker_id}) runs up to {0.concurrency} jobs at once from {0.queues} "
            "({0.kind}, {0.strategy})"
        ),
    ),
    events.WorkerStopping: (
        INFO,
        "worker {0.name} stops ({0.reason}); {0.running} running jobs get {0.patience:g} s to end",
    ),
    events.WorkerStopped: (INFO, "worker {0.name} has stopped ({0.reason})"),
    events.WornUnused: (
        WARNING,
        "worker {0.name} has run no job, and {0.reason}; raise max_memory above what the app itself takes",
    ),
    events.WorkerDeclaredDead: (
        WARNING,
        "worker {0.name} has not beaten for {0.silent_for:.0f} s and counts as dead; its jobs are taken back",
    ),
    events.LivenessLost: (
        ERROR,
        "worker {0.name} was declared dead by others; its {0.running} running jobs are stopped, it starts anew",
    ),
    events.OutageBegan: (WARNING, "worker {0.name} has lost Postgres and tries again until it is back: {0.error}"),
    events.OutageEnded: (INFO, "worker {0.name} has Postgres again after {0.seconds:.1f} s"),
    events.ListenerDeaf: (
        WARNING,
        "worker {0.name} hears no notifications (is there a pooler in between?) and polls instead; say listen=False",
    ),
    events.LoopBlocked: (
        WARNING,
        "worker {0.name}: the event loop has been blocked for {0.seconds:.1f} s by\n{0.stack}",
    ),
    events.AttemptFailed: (
        WARNING,
        "job {0.job_id} ({0.function}) failed in attempt {0.attempt} of {0.max_attempts}, {0.next}: {0.headline}",
    ),
    events.ThreadStuck: (
        WARNING,
        "the attempt of job {0.job_id} ({0.function}) is over, but its thread cannot be killed and keeps its slot",
    ),
    events.ClaimLost: (WARNING, "job {0.job_id} was taken from this worker; what it gave is not stored"),
    events.ResultRefused: (ERROR, "the result of job {0.job_id} was refused by Postgres; the attempt fails: {0.error}"),
    events.HookFailed: (ERROR, "the hook {0.hook} raised for {0.about}, which goes on: {0.error}"),
    events.JobsRescued: (WARNING, "took back {0.requeued} jobs of dead workers; {0.failed} more had no attempt left"),
    events.SchedulerAway: (WARNING, "scheduler {0.name} has lost Postgres and tries again until it is back: {0.error}"),
    events.SchedulerBack: (INFO, "scheduler {0.name} has Postgres again after {0.seconds:.1f} s"),
    events.ScheduleUnfit: (
        ERROR,
        "the schedule {0.name} is paused, as it cannot be read; mend and resume it: {0.error}",
    ),
    events.ScheduleLeft: (
        WARNING,
        "the schedule {0.name} is left to other schedulers, as this one cannot fire it: {0.error}",
    ),
    events.ScheduleRefused: (ERROR, "the schedule {0.name} passes over a tick, as its job was refused: {0.error}"),
    events.DutyFailed: (WARNING, "{0.duty} failed and will be tried again: {0.error}"),
}


class _Job(NamedTuple):
    id: int
    function: str
    attempt: int


_job: ContextVar[_Job | None] = ContextVar("job", default=None)


def enter_job(job_id: int, function: str, attempt: int) -> None:
    """Whatever is logged from here on, in this task or thread and those that it starts, carries the job."""
    _job.set(_Job(job_id, function, attempt))


def configure_logging(level: str = "info", format: str = "text") -> None:  # noqa: A002 - the name that users write
    """Logs everything from this level on to stderr. Lines of handlers carry their job, its function and the attempt."""
    number = logging.getLevelNamesMapping().get(level.upper()) if _are_texts(level, format) else None
    if number is None or format not in ("text", "json"):
        raise InvalidOption(f"log level and format must be like info and text, got {brief(level)} and {brief(format)}")
    handler = _Handler()
    handler.setFormatter(_Json() if format == "json" else _Text("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [*(each for each in root.handlers if not isinstance(each, _Handler)), handler]
    root.setLevel(number)


def _are_texts(*given: object) -> bool:
    return all(isinstance(each, str) for each in given)


class _Handler(logging.StreamHandler[TextIO]):
    """Known by its class, so that a second call replaces the first one's."""


class _Text(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        job = _job.get()
        line = super().formatMessage(record)
        return line if job is None else f"{line} [job {job.id} {job.function} attempt {job.attempt}]"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        job = _job.get()
        line: dict[str, object] = {
            "time": self.formatTime(record), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(),
        }  # fmt: skip
        if job is not None:
            line |= {"job_id": job.id, "function": job.function, "attempt": job.attempt}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _log(event: events.Event) -> None:
    level, line = _LINES[type(event)]
    if logger.isEnabledFor(level):
        logger.log(level, "%s", printable(line.format(event)))


events.subscribe(_log)
