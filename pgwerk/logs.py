"""Events as log lines."""

from __future__ import annotations

import json
import logging
from functools import singledispatch

from pgwerk import events
from pgwerk.errors import InvalidOption

logger = logging.getLogger("pgwerk")


def configure_logging(level: str = "info", format: str = "text") -> None:  # noqa: A002 - the name that users write
    """Gives pgwerk's own logger a handler on stderr; the root logger stays the program's business."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None or format not in ("text", "json"):
        raise InvalidOption(f"log level and format must be like info and text, got {level!r} and {format!r}")
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Json() if format == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
    )
    logger.handlers[:] = [handler]
    logger.setLevel(number)
    logger.propagate = False


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


@singledispatch
def _log(event: events.Event) -> None:
    logger.debug("%r", event)


@_log.register
def _(event: events.WorkerStarted) -> None:
    logger.info(
        "worker %s (%d) runs up to %d jobs at once from %s",
        event.name, event.worker_id, event.concurrency, ", ".join(event.queues),
    )  # fmt: skip


@_log.register
def _(event: events.WorkerStopping) -> None:
    logger.info(
        "worker %s stops (%s); %d running jobs get %g s to end",
        event.name,
        event.reason,
        event.running,
        event.patience,
    )


@_log.register
def _(event: events.WorkerStopped) -> None:
    logger.info("worker %s has stopped (%s)", event.name, event.reason)


@_log.register
def _(event: events.WorkerDeclaredDead) -> None:
    logger.warning("worker %s has not beaten for %.0f s and is dead to us; its jobs are taken back", event.name, event.silent_for)  # fmt: skip


@_log.register
def _(event: events.LivenessLost) -> None:
    logger.error("worker %s was declared dead by others; its %d running jobs are stopped, it starts anew", event.name, event.running)  # fmt: skip


@_log.register
def _(event: events.OutageBegan) -> None:
    logger.warning(
        "worker %s has lost Postgres and tries again until it is back: %s", event.name, event.error
    )


@_log.register
def _(event: events.OutageEnded) -> None:
    logger.info("worker %s has Postgres again after %.1f s", event.name, event.seconds)


@_log.register
def _(event: events.ListenerDeaf) -> None:
    logger.warning("worker %s hears no notifications (is there a pooler in between?) and polls instead; say listen=False", event.name)  # fmt: skip


@_log.register
def _(event: events.LoopBlocked) -> None:
    logger.warning("worker %s: the event loop has been blocked for %.1f s by\n%s", event.name, event.seconds, event.stack)  # fmt: skip


@_log.register
def _(event: events.AttemptFailed) -> None:
    what = "no attempt is left" if event.retry_in is None else f"next in {event.retry_in:.1f} s"
    logger.warning(
        "job %d (%s) failed in attempt %d of %d, %s: %s",
        event.job_id, event.function, event.attempt, event.max_attempts, what, event.error.strip().rpartition("\n")[2],
    )  # fmt: skip


@_log.register
def _(event: events.ThreadStuck) -> None:
    logger.warning(
        "the attempt of job %d (%s, timeout %s s) is over, but its thread cannot be killed: it keeps its slot until it returns",
        event.job_id, event.function, event.timeout,
    )  # fmt: skip


@_log.register
def _(event: events.ClaimLost) -> None:
    logger.warning("job %d was taken from this worker; what it gave is not stored", event.job_id)


@_log.register
def _(event: events.ResultRefused) -> None:
    logger.error(
        "the result of job %d was refused by Postgres; the attempt fails: %s", event.job_id, event.error
    )


@_log.register
def _(event: events.JobsRescued) -> None:
    logger.warning("took back %d jobs of dead workers, %d had no attempt left", event.requeued + event.failed, event.failed)  # fmt: skip


@_log.register
def _(event: events.DutyFailed) -> None:
    logger.warning(
        "maintenance (%s) failed and will be tried again at the next round: %s", event.duty, event.error
    )


events.subscribe(_log)
