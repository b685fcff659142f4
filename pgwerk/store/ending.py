from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgwerk.store.catalogue import Catalogue, as_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgwerk.execution import Outcome
    from pgwerk.wire import Call, Row


@dataclass(slots=True)
class Ended:
    """What a transaction that ends attempts has done."""

    found: set[int] = field(default_factory=set)
    """The jobs that were still where their outcomes said."""

    readied: int = 0
    """Other jobs that may run now, or at their time: callbacks, next runs, dependents, the next of a group."""

    promoted: dict[int, str] = field(default_factory=dict)
    """Jobs that wait for no other any more, and what they are now."""

    doomed: dict[int, str] = field(default_factory=dict)
    """Jobs that will never run, and why: they are to be ended next."""

    def __or__(self, other: Ended) -> Ended:
        return Ended(
            self.found | other.found,
            self.readied + other.readied,
            self.promoted | other.promoted,
            self.doomed | other.doomed,
        )


class EndingStore(Catalogue):
    def end(self, outcomes: Sequence[Outcome]) -> list[Call[Ended]]:
        """What ends these attempts, to be said in one transaction: a statement for each way of ending that occurs, and
        then what frees those who waited for them.
        """
        parts: dict[str, list[Outcome]] = {"complete": [], "settle": [], "send_back": []}
        for outcome in outcomes:
            parts[outcome.statement].append(outcome)
        calls = [self._end(statement, some) for statement, some in parts.items() if some]
        if grouped := [outcome.job_id for outcome in outcomes if outcome.is_grouped]:
            calls.append(self.free(grouped))
        if ended := parts["complete"] + parts["settle"]:
            calls.append(self.release([outcome.job_id for outcome in ended]))
        return calls

    def free(self, ids: Sequence[int]) -> Call[Ended]:
        """For jobs that have left `active` or `ready`: the next of their groups."""
        return self._call("free", _freed, ids=list(ids), channel=self.channel)

    def release(self, ids: Sequence[int], *, always_notify: bool = False) -> Call[Ended]:
        """For jobs that may have ended: those that depend on them."""
        return self._call("release", _released, ids=sorted(ids), channel=self.channel, always=always_notify)

    def _end(self, statement: str, outcomes: Iterable[Outcome]) -> Call[Ended]:
        """In the order of the jobs, so that those who end the same ones wait for each other and never in a ring."""
        rows = as_json([outcome.wire() for outcome in sorted(outcomes, key=_job)])
        read = _completed if statement == "complete" else _ended
        return self._call(statement, read, outcomes=rows, channel=self.channel)


def _job(outcome: Outcome) -> int:
    return outcome.job_id


def _completed(rows: list[Row]) -> Ended:
    return Ended(set(rows[0]["ids"] or ()))


def _ended(rows: list[Row]) -> Ended:
    return Ended({row["job_id"] for row in rows}, rows[0].get("follow", 0) if rows else 0)


def _freed(rows: list[Row]) -> Ended:
    return Ended(readied=len(rows))


def _released(rows: list[Row]) -> Ended:
    doomed = {row["job_id"]: row["doom"] for row in rows if row["doom"] is not None}
    promoted = {row["job_id"]: row["status"] for row in rows if row["status"] is not None}
    return Ended(readied=len(promoted), promoted=promoted, doomed=doomed)
