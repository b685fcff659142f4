"""Which jobs somebody means."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

import orjson

from pgwerk.errors import InvalidOption, brief
from pgwerk.job import JobStatus


class Filters(TypedDict, total=False):
    """All that are given must hold."""

    queue: str | None
    status: JobStatus | str | None
    function: str | None
    """The whole dotted path."""

    key: str | None
    group: str | None
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
    unknown = filters.keys() - Filters.__annotations__.keys()
    if unknown:
        raise InvalidOption(f"{min(unknown)} is no filter of jobs; there are {', '.join(Filters.__annotations__)}")
    given: dict[str, Any] = dict.fromkeys(Filters.__annotations__) | {"callbacks": True} | dict(filters)
    given["text"] = given.pop("search")
    given["status"] = status_of(given["status"])
    given["meta"] = None if given["meta"] is None else orjson.dumps(given["meta"])
    for name, value in given.items():
        if isinstance(value, datetime) and value.utcoffset() is None:
            raise InvalidOption(f"{name} must know its time zone, got the naive {value.isoformat()}")
    return given


def status_of(status: JobStatus | str | None) -> str | None:
    try:
        return None if status is None else JobStatus(status).value
    except ValueError as error:
        raise InvalidOption(f"a status is one of {', '.join(JobStatus)}, got {brief(status)}") from error
