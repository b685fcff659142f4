"""Events as log lines."""

from __future__ import annotations

import json
import logging
from logging import ERROR, INFO, WARNING

from pgwerk import events
from pgwerk.errors import InvalidOption

logger = logging.getLogger("pgwerk")

_LINES: dict[type[events.Event], tuple[int, str]] = {
    events.WorkerStarted: (
        INFO,
        "worker {0.name} ({0.worker_id}) runs up to {0.concurrency} jobs at once from {0.queues}",
    ),
    events.WorkerStopping: (
        INFO,
        "worker {0.name} stops ({0.reason}); {0.running} running jobs get {0.patience:g} s to end",
    ),
    events.WorkerStopped: (INFO, "worker {0.name} has stopped ({0.reason})"),
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
        "job {0.job_id} ({0.function}) failed in attempt {0.attempt} of {0.max_attempts}, {0.next}: {0.last_line}",
    ),
    events.ThreadStuck: (
        WARNING,
        "the attempt of job {0.job_id} ({0.function}) is over, but its thread cannot be killed and keeps its slot",
    ),
    events.ClaimLost: (WARNING, "job {0.job_id} was taken from this worker; what it gave is not stored"),
    events.ResultRefused: (ERROR, "the result of job {0.job_id} was refused by Postgres; the attempt fails: {0.error}"),
    events.JobsRescued: (WARNING, "took back {0.requeued} jobs of dead workers; {0.failed} more had no attempt left"),
    events.DutyFailed: (WARNING, "{0.duty} failed and will be tried again: {0.error}"),
}


def configure_logging(level: str = "info", format: str = "text") -> None:  # noqa: A002 - the name that users write
    """Gives pgwerk's own logger a handler on stderr; the root logger stays the program's business."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None or format not in ("text", "json"):
        raise InvalidOption(f"log level and format must be like info and text, got {level!r} and {format!r}")
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if format == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(number)
    logger.propagate = False


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log(event: events.Event) -> None:
    level, line = _LINES[type(event)]
    if logger.isEnabledFor(level):
        logger.log(level, "%s", line.format(event))


events.subscribe(_log)
