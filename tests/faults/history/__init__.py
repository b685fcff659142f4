"""A history, and the proof that it is one that the guarantees allow.

Producers note what they asked for and what they know of its outcome (`tests/faults/producing.py`), handlers when they
start and end (`tests/faults/acts.py`), faults whom they struck, all in a `Log` on a database of its own. When
everything has ended, `prove` reads the log and the tables and says which rules were broken, by which job.

A lawful second run is one after an attempt that was lost with its worker (at least once), or that a stopping worker
has handed back. Whatever the run of a lost attempt still does, none of it may be stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.faults.history import order, rules
from tests.faults.history.facts import History, read
from tests.faults.history.log import Log
from tests.faults.history.rules import Broken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Broken", "Figures", "History", "Log", "broken", "prove", "read"]

RULES: tuple[Callable[[History], Iterator[Broken]], ...] = (*rules.RULES, *order.RULES)
MOST_SHOWN = 20


class Figures(NamedTuple):
    """How much a proof was about."""

    asked: int
    unknown: int
    jobs: int
    runs: int
    lost: int
    """Attempts that ended with their worker."""

    longest_loss: float
    """Seconds from a worker's death until the last of its jobs was taken back."""


def broken(history: History) -> list[Broken]:
    return [each for rule in RULES for each in rule(history)]


def prove(log: Log, dsn: str, schema: str) -> Figures:
    """Fails with every rule that was broken, and by which job."""
    history = read(log.dsn, dsn, schema)
    found = broken(history)
    assert not found, "\n".join([f"{len(found)} times broken:", *map(str, found[:MOST_SHOWN])])
    return Figures(
        asked=len(history.asked),
        unknown=sum(asked.outcome == "unknown" for asked in history.asked),
        jobs=len(history.jobs),
        runs=len(history.runs),
        lost=sum(each.is_lost for each in history.attempts),
        longest_loss=max(history.losses(), default=0.0),
    )
