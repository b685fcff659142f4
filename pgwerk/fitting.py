"""Whether the jobs that have not started fit the code here: asked in pages, and of each shape of call once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgwerk.errors import HandlerNotFound, InvalidType, NotSerializable
from pgwerk.handlers import find
from pgwerk.job import arguments_in, decoded
from pgwerk.store.doctor import DoctorStore, Place, Shape
from pgwerk.store.schedules import ScheduleStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgwerk.allow import Allowed
    from pgwerk.db import Database
    from pgwerk.serializers import Serializer
    from pgwerk.store.doctor import Shaped
    from pgwerk.wire import Row, Session

NAMED = 3  # jobs of each kind of misfit
OPENED = 100  # payloads at once: each may be large


@dataclass(slots=True, kw_only=True)
class Misfit:
    """Jobs that would fail for the same reason; none where it is a schedule that would make them."""

    function: str
    reason: str
    is_missing: bool
    """There is no such function, or it may not be a job."""

    is_callback: bool = False
    """The jobs are others', that call it back when they end."""

    schedule: str | None = None
    jobs: int = 0
    ids: list[int] = field(default_factory=list)
    """The first of them."""


@dataclass(slots=True)
class Fitting:
    """What was found; it grows with the kinds of calls, not with the jobs."""

    serializer: Serializer
    allowed: Allowed
    jobs: int = 0
    schedules: int = 0
    found: dict[tuple[str, str], Misfit] = field(default_factory=dict)
    _known: dict[Shape, Misfit | None] = field(default_factory=dict)

    @property
    def misfits(self) -> list[Misfit]:
        """Those that most jobs are of come first."""
        return sorted(self.found.values(), key=lambda misfit: (-misfit.jobs, misfit.function, misfit.reason))

    def add(self, shaped: Shaped) -> None:
        self.jobs += shaped.jobs if shaped.shape.is_own else 0
        misfit = self._misfit(shaped.shape, shaped.ids[0])
        if misfit is not None:
            misfit.jobs += shaped.jobs
            misfit.ids = sorted(misfit.ids + shaped.ids)[:NAMED]

    def add_schedule(self, row: Row) -> None:
        self.schedules += 1
        shape = Shape(row["function"], False, True, None, None, row["payload"])
        self._tried(shape, 0, row["name"])

    def _misfit(self, shape: Shape, number: int) -> Misfit | None:
        if shape.payload is not None:
            return self._tried(shape, number)  # each its own: to remember them would be to keep every payload
        if shape not in self._known:
            self._known[shape] = self._tried(shape, number)
        return self._known[shape]

    def _tried(self, shape: Shape, number: int, schedule: str | None = None) -> Misfit | None:
        try:
            self._try(shape, number)
        except (HandlerNotFound, InvalidType) as error:
            return self._of(shape, str(error), schedule, is_missing=isinstance(error, HandlerNotFound))
        except NotSerializable:
            return self._of(shape, "the app's serializer cannot read its arguments", schedule, is_missing=False)
        return None

    def _of(self, shape: Shape, reason: str, schedule: str | None, *, is_missing: bool) -> Misfit:
        if schedule is not None:
            reason = f"enqueued by the schedule {schedule!r}: {reason}"
        elif not shape.is_own:
            reason = f"called back at the job's end: {reason}"
        new = Misfit(
            function=shape.function, reason=reason, is_missing=is_missing, is_callback=not shape.is_own,
            schedule=schedule,
        )  # fmt: skip
        return self.found.setdefault((shape.function, reason), new)

    def _try(self, shape: Shape, number: int) -> None:
        """As a worker would, but for the call."""
        handler = find(shape.function, self.allowed)
        if shape.is_callback:
            handler.check_callback("a callback")
        elif shape.payload is not None:
            handler.check(*arguments_in(decoded(shape.payload, "payload", number, self.serializer)))
        else:
            handler.check([None] * (shape.positional or 0), dict.fromkeys(shape.names or ()))


async def fit(database: Database, serializer: Serializer, allowed: Allowed) -> Fitting:
    """Of schedules, and of every job that has not started. One that becomes due meanwhile may count twice; none is
    missed.
    """
    fitting, store = Fitting(serializer, allowed), DoctorStore(database.schema)
    async with database.session() as session:
        for row in await session.run(ScheduleStore(database.schema).get()):
            fitting.add_schedule(row)
        async for ids in _pages(session, store):
            for shaped in await session.run(store.shapes(ids)):
                async for each in _opened(session, store, shaped):
                    fitting.add(each)
    return fitting


async def _opened(session: Session, store: DoctorStore, shaped: Shaped) -> AsyncIterator[Shaped]:
    """Each of its jobs by itself where only the app can say how it is called."""
    if not shaped.is_closed:
        yield shaped
        return
    for start in range(0, len(shaped.ids), OPENED):
        for each in await session.run(store.opened(shaped, shaped.ids[start : start + OPENED])):
            yield each


async def _pages(session: Session, store: DoctorStore) -> AsyncIterator[list[int]]:
    """First those that may yet be queued."""
    ids = await session.run(store.unqueued_page(0))
    while ids:
        yield ids
        ids = await session.run(store.unqueued_page(ids[-1]))
    place: Place | None = Place()
    while place is not None:
        ids, place = await session.run(store.queued_page(place))
        if ids:
            yield ids
