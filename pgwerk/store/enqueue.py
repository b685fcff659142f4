from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from orjson import Fragment

from pgwerk.job import Job, JobStatus
from pgwerk.params import CALLBACKS
from pgwerk.store.catalogue import Catalogue, as_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgwerk.params import Spec
    from pgwerk.wire import Call, Row


class Inserted(NamedTuple):
    jobs: list[Job | None]
    """In order; None: the key was taken, and nothing was written for it."""

    unknown: Sequence[int] = ()
    """Dependencies that do not exist: nothing at all was written."""


NEEDS_MORE = frozenset(("key", "depends_on", "delay", "at", "waited", "schedule_name"))
"""Columns of a job of which more must be known before it can be written."""


class EnqueueStore(Catalogue):
    def enqueue(self, specs: Sequence[Spec], *, always_notify: bool) -> Call[Inserted]:
        values = {"channel": self.channel, "always": always_notify}
        if any(not NEEDS_MORE.isdisjoint(spec.columns) for spec in specs):
            return self._call("enqueue", partial(_inserted, specs), specs=_listed(specs), **values)
        read = partial(_inserted_now, specs)
        if len(specs) == 1 and specs[0].columns.keys() <= self._said_plainly:
            options = {**dict.fromkeys(self._said_plainly), **specs[0].columns}
            return self._call("enqueue_one", read, **options, payload=specs[0].text, **values)
        return self._call("enqueue_now", read, runs=_in_runs(specs), **values)

    @cached_property
    def _said_plainly(self) -> frozenset[str]:
        """The columns that `enqueue_one` takes."""
        return frozenset(self._statements["enqueue_one"].parameters) - {"payload", "channel", "always"}


def _listed(specs: Sequence[Spec]) -> bytes:
    return as_json([{**spec.columns, "payload": Fragment(spec.text)} for spec in specs])


def _in_runs(specs: Sequence[Spec]) -> bytes:
    return as_json([
        {"alike": columns, "payloads": Fragment(b"[%s]" % b",".join([spec.text for spec in alike]))}
        for columns, alike in groupby(specs, _columns)
    ])  # fmt: skip


def _inserted(specs: Sequence[Spec], rows: list[Row]) -> Inserted:
    unknown = next((row["unknown"] for row in rows if row["unknown"]), ())
    return Inserted([_job(spec, row) if row["fresh"] else None for spec, row in zip(specs, rows, strict=True)], unknown)


def _job(spec: Spec, row: Row) -> Job:
    times = {name: row[name] for name in ("enqueued_at", "scheduled_at", "expires_at")}
    return Job(
        id=row["id"], status=JobStatus(row["status"]), attempts=0, payload=spec.payload, meta=spec.meta,
        **times, **_said(spec.columns),
    )  # fmt: skip


def _inserted_now(specs: Sequence[Spec], rows: list[Row]) -> Inserted:
    """Those that are alike share what they said."""
    (row,) = rows
    jobs: list[Job | None] = []
    for columns, alike in groupby(zip(specs, row["ids"], strict=True), _columns_of_first):
        said = _said(columns) | {"enqueued_at": row["enqueued_at"], "expires_at": _expiry(columns, row["enqueued_at"])}
        jobs += [
            Job(id=job_id, status=JobStatus.Queued, attempts=0, payload=spec.payload, meta=spec.meta, **said)
            for spec, job_id in alike
        ]
    return Inserted(jobs)


def _said(columns: Mapping[str, Any]) -> dict[str, Any]:
    called = {name: columns[name]["function"] for name in _CALLED & columns.keys()}
    return {name: columns[name] for name in _AS_SAID & columns.keys()} | called


def _expiry(columns: Mapping[str, Any], enqueued_at: datetime) -> datetime | None:
    return enqueued_at + timedelta(seconds=columns["ttl"]) if "ttl" in columns else None


def _columns_of_first(pair: tuple[Spec, int]) -> Mapping[str, Any]:
    return pair[0].columns


_columns = attrgetter("columns")
_AS_SAID = {each.name for each in fields(Job)} - {"payload", "meta", *CALLBACKS}
_CALLED = set(CALLBACKS)
