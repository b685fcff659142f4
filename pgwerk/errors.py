"""What can go wrong, each with a name of its own.

Every error is a `WerkError` and also the builtin that fits, so `except ValueError` works as expected.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgwerk.job import Job


_LONGEST = 80  # characters of a value in a message


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it; ends of lines and tabs are text."""

_END_OF_GROUP = "+---"


def headline(text: str | None) -> str:
    """Of a traceback: the line that names what was raised. Of a message: its first line."""
    lines = (text or "").strip("\n").splitlines()
    if lines and lines[-1].lstrip().startswith(_END_OF_GROUP):  # the group itself, not what is in it
        lines = [line[4:] for line in lines if line.startswith("  | ")]
    last = max((number for number, line in enumerate(lines) if line.lstrip().startswith('File "')), default=-1)
    return next((line.strip() for line in lines[last + 1 :] if line.strip() and (last < 0 or line[0] != " ")), "")


def printable(text: str) -> str:
    """What came from a job, for a terminal: its control characters as Python writes them."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def one_line(error: BaseException) -> str:
    """Its message, whatever it is: its own `__str__` may fail."""
    try:
        return " ".join(str(error).split()) or repr(error)
    except BaseException:  # noqa: BLE001 - whoever says it is handling another error already
        return f"a {type(error).__qualname__} that cannot be shown"


def said_no(error: BaseException) -> str:
    """Of what a server raised."""
    return f"the server said no: {one_line(error)}"


def brief(value: object) -> str:
    """A value in a message, whatever it is: its own `__repr__` may fail, nest too deep, or have too many digits."""
    try:
        text = repr(value)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    except Exception:  # noqa: BLE001 - the message is about something else
        return f"a {type(value).__qualname__} that cannot be shown"


class WerkError(Exception):
    """Everything that pgwerk raises on purpose."""


class InvalidOption(WerkError, ValueError):
    """An option or argument that can never work, refused before anything is written."""


class InvalidType(WerkError, TypeError):
    """An option or argument of the wrong kind, refused before anything is written."""


class NotConnected(WerkError, RuntimeError):
    """The app was used before `connect()` or after `disconnect()`."""


class MissingExtra(WerkError, ImportError):
    """A feature whose optional dependency is not installed; the message holds the pip line."""


class ServerUnreachable(WerkError, ConnectionError):
    """No connection to Postgres could be made."""


class SchemaError(WerkError, RuntimeError):
    """The schema in the database and this version of pgwerk do not go together."""


class SchemaMissing(SchemaError):
    """The database has no pgwerk schema yet."""


class SchemaTooOld(SchemaError):
    """The schema lacks migrations that this version needs."""


class SchemaTooNew(SchemaError):
    """The schema no longer serves code as old as this version."""


class HandlerNotFound(WerkError, LookupError):
    """A job names a function that cannot be found in this process."""


class HandlerNotAllowed(HandlerNotFound):
    """A job names a function that the setting `allow` leaves out."""


class FunctionNotAllowed(InvalidOption):
    """An option or argument names a function that the setting `allow` leaves out."""


class NotSerializable(WerkError, TypeError):
    """A value that the app's serializer cannot take."""


class KeyIsHeld(WerkError, TimeoutError):
    """A transaction that is still open has enqueued a job with the same key: whether it is taken is not known yet."""


class TableIsLocked(WerkError, TimeoutError):
    """A table of jobs has been locked by somebody for as long as an enqueue waits."""


class ProcessDied(WerkError, RuntimeError):
    """The process that ran an attempt ended under it: a crash, an exit, a kill."""


class JobNotFound(WerkError, LookupError):
    """No job has this id (any more)."""


class ScheduleNotFound(WerkError, LookupError):
    """No schedule has this name (any more)."""


class ScheduleExists(WerkError, ValueError):
    """The name is taken by another schedule, or by somebody else's."""


class JobError(WerkError):
    """The job that was waited for failed or was aborted; `job` is the job as it ended."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} ({job.function}) {job.status}: {job.error}")
        self.job = job


class JobTimeout(WerkError, TimeoutError):
    """An attempt ran longer than its `_timeout`, or a wait ended before its job did."""


class DependencyFailed(JobError):
    """The job never ran, as a job that it depended on failed, was aborted, or is gone."""
