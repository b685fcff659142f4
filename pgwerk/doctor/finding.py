from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pgwerk.store.doctor import DoctorStore

if TYPE_CHECKING:
    from pgwerk.config import WerkConfig
    from pgwerk.db import Database
    from pgwerk.serializers import Serializer
    from pgwerk.wire import Call

T = TypeVar("T")


class Verdict(StrEnum):
    Ok = "ok"
    Warning = "warning"
    """Jobs run; something will hurt some day."""

    Failure = "failure"
    """Jobs do not run, or fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    found: str
    mend: str = ""
    """A line that mends it: a statement, a command, or words."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at."""

    database: Database
    config: WerkConfig
    serializer: Serializer
    is_app_known: bool = True
    """False: a DSN was all that was given."""

    @property
    def store(self) -> DoctorStore:
        return DoctorStore(self.database.schema)

    async def ask(self, call: Call[T]) -> T:
        async with self.database.session() as session:
            return await session.run(call)


Check: TypeAlias = Callable[[Patient], Awaitable[Finding]]


def ok(found: str) -> Finding:
    return Finding(Verdict.Ok, found)


def warning(found: str, mend: str) -> Finding:
    return Finding(Verdict.Warning, found, mend)


def failure(found: str, mend: str) -> Finding:
    return Finding(Verdict.Failure, found, mend)
