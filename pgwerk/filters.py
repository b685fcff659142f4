"""Which jobs somebody means."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypedDict

from pgwerk import checks
from pgwerk.errors import InvalidOption, InvalidType, brief
from pgwerk.job import JobStatus


class Filters(TypedDict, total=False):
    """All that are given must hold."""

    queue: str | None
    status: JobStatus | str | None
    function: str | None
    """The whole dotted path."""

    key: str | None
    group: str | None
    schedule: str | None
    """The name of the schedule whose tick it was."""

    worker_id: int | None
    meta: dict[str, Any] | None
    """What the job's meta contains, at least."""

    search: str | None
    """A text in the function, the key, the arguments or the error, in whatever case."""

    enqueued_from: datetime | None
    enqueued_until: datetime | None
    completed_from: datetime | None
    completed_until: datetime | None
    callbacks: bool
    """False: jobs that are callbacks of others are left out."""


def values_of(filters: Filters) -> dict[str, Any]:
    """For the statement, every name of which has a value."""
    unknown = filters.keys() - _CHECKS.keys()
    if unknown:
        raise InvalidOption(f"{brief(min(unknown))[1:-1]} is no filter of jobs; there are {', '.join(_CHECKS)}")
    given: dict[str, Any] = dict.fromkeys(_CHECKS) | {"callbacks": True} | dict(filters)
    checked = {name: None if given[name] is None else check(name, given[name]) for name, check in _CHECKS.items()}
    checked["text"] = checked.pop("search")
    return checked


def status_of(status: object) -> str | None:
    if status is None:
        return None
    if not isinstance(status, str):
        raise InvalidType(f"a status must be a text, got {brief(status)}")
    try:
        return JobStatus(status).value
    except ValueError as error:
        raise InvalidOption(f"a status is one of {', '.join(JobStatus)}, got {brief(status)}") from error


_CHECKS: dict[str, Callable[[str, object], object]] = {
    "queue": checks.text,
    "status": lambda _, value: status_of(value),
    "function": checks.text,
    "key": checks.text,
    "group": checks.text,
    "schedule": checks.text,
    "worker_id": lambda name, value: checks.count(name, value, 0, checks.LARGEST_ID),
    "meta": checks.meta,
    "search": checks.text,
    "enqueued_from": checks.moment,
    "enqueued_until": checks.moment,
    "completed_from": checks.moment,
    "completed_until": checks.moment,
    "callbacks": checks.flag,
}
