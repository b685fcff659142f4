from __future__ import annotations

from dataclasses import MISSING, fields
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from orjson import Fragment

from pgwerk.job import Job, JobStatus
from pgwerk.params import CALLBACKS
from pgwerk.specifying import Run
from pgwerk.store.catalogue import Catalogue, as_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgwerk.specifying import Spec
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
        if len(specs) == 1 and specs[0].columns.keys() <= self._plainly.keys():
            one = _run(specs)
            options = {**self._plainly, **one.columns, "payload": one.text}
            return self._call("enqueue_one", partial(_inserted_now, [one]), **options, **values)
        return self.enqueue_runs(_in_runs(specs), always_notify=always_notify)

    def enqueue_runs(self, runs: Sequence[Run], *, always_notify: bool) -> Call[Inserted]:
        said = as_json([{"alike": run.columns, "payloads": Fragment(b"[%s]" % run.text)} for run in runs])
        read = partial(_inserted_now, runs)
        return self._call("enqueue_now", read, runs=said, channel=self.channel, always=always_notify)

    @cached_property
    def _plainly(self) -> dict[str, None]:
        """The columns that `enqueue_one` takes, none of them said."""
        parameters = self._statements["enqueue_one"].parameters
        return dict.fromkeys(name for name in parameters if name not in {"payload", "channel", "always"})


def _listed(specs: Sequence[Spec]) -> bytes:
    return as_json([{**spec.columns, "payload": Fragment(spec.text)} for spec in specs])


def _in_runs(specs: Sequence[Spec]) -> list[Run]:
    return [_run(list(alike)) for _, alike in groupby(specs, _columns)]


def _run(alike: Sequence[Spec]) -> Run:
    first = alike[0]
    text = b",".join([spec.text for spec in alike])
    return Run(first.columns, text, [spec.payload for spec in alike], first.meta)


def _inserted(specs: Sequence[Spec], rows: list[Row]) -> Inserted:
    unknown = next((row["unknown"] for row in rows if row["unknown"]), ())
    return Inserted([_job(spec, row) if row["fresh"] else None for spec, row in zip(specs, rows, strict=True)], unknown)


def _job(spec: Spec, row: Row) -> Job:
    times = {name: row[name] for name in ("enqueued_at", "scheduled_at", "expires_at")}
    return Job(
        id=row["id"], status=JobStatus(row["status"]), attempts=0, payload=spec.payload, meta=spec.meta,
        **times, **_said(spec.columns),
    )  # fmt: skip


def _inserted_now(runs: Sequence[Run], rows: list[Row]) -> Inserted:
    (row,) = rows
    found, end = [], 0
    for run in runs:
        start, end = end, end + len(run.payloads)
        found.append(_alike(run, row["ids"][start:end], row["enqueued_at"]))
    return Inserted(list(chain.from_iterable(found)))


def _alike(run: Run, ids: Sequence[int], enqueued_at: datetime) -> list[Job]:
    """By position: by name, a `Job` takes half as long again."""
    values = {
        **_UNSAID, **_said(run.columns), "status": JobStatus.Queued, "attempts": 0, "meta": run.meta,
        "enqueued_at": enqueued_at, "expires_at": _expiry(run.columns, enqueued_at),
    }  # fmt: skip
    jobs = []
    for job_id, payload in zip(ids, run.payloads, strict=True):
        values["id"], values["payload"] = job_id, payload
        jobs.append(Job(*values.values()))
    return jobs


def _said(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value["function"] if name in CALLBACKS else value for name, value in columns.items() if name in _AS_SAID
    }


def _expiry(columns: Mapping[str, Any], enqueued_at: datetime) -> datetime | None:
    return enqueued_at + timedelta(seconds=columns["ttl"]) if "ttl" in columns else None


_columns = attrgetter("columns")
_AS_SAID = {each.name for each in fields(Job)} - {"meta"}
_UNSAID: dict[str, Any] = {each.name: None if each.default is MISSING else each.default for each in fields(Job)}
