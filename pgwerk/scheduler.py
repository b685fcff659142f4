"""The scheduler: turns ticks into jobs. Any number of them may run at once; each tick is taken by one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar, overload

import psycopg

from pgwerk import checks, events
from pgwerk.errors import (
    FunctionNotAllowed,
    InvalidOption,
    MissingExtra,
    NotSerializable,
    ScheduleExists,
    ServerUnreachable,
    brief,
    one_line,
)
from pgwerk.schedule import Schedule, params_of, specify_schedule
from pgwerk.signals import stop_signals
from pgwerk.store.enqueue import EnqueueStore
from pgwerk.store.schedules import ScheduleStore
from pgwerk.wire import is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pgwerk.app import Werk
    from pgwerk.schedule import ScheduleParams
    from pgwerk.specifying import Spec
    from pgwerk.wire import Row, Session

F = TypeVar("F", bound="Callable[..., Any]")

POLL = 5.0  # seconds, at most, until what others have changed is seen
RETRY = 1.0  # seconds between two tries while the server is away
_NOT_HERE = (MissingExtra, NotSerializable, FunctionNotAllowed)  # errors of this process: another one may be able to


class Unregistered(StrEnum):
    """What becomes of a schedule that the code does not register any more."""

    Keep = "keep"
    Pause = "pause"
    Delete = "delete"


class Scheduler:
    """Schedules that stand in code, and those that were made at run time: it fires both.

    `name` tells its schedules from those of another scheduler's code in the same schema. Of a tick there is one job,
    whatever dies: the transaction that writes it moves the schedule to its next tick.
    """

    def __init__(
        self, app: Werk, *, name: str = "scheduler", on_unregistered: Unregistered | str = Unregistered.Keep
    ) -> None:
        chosen = checks.choice("on_unregistered", Unregistered, checks.text("on_unregistered", on_unregistered))
        self.app = app
        self.name = checks.name("a scheduler's name", name)
        self.on_unregistered = Unregistered(chosen)
        self._registered: list[ScheduleParams] = []
        self._stopping = asyncio.Event()
        self._left: set[str] = set()  # schedules, and it was said
        self._session: Session | None = None
        self._away_since: float | None = None
        app.schedulers.append(self)

    @overload
    def register(self, func: F | str, /, **said: Any) -> F: ...

    @overload
    def register(self, /, **said: Any) -> Callable[[F], F]: ...

    def register(self, func: Any = None, /, **said: Any) -> Any:
        """`cron` or `interval`, and whatever else `ScheduleParams` has; also as a decorator. It is written when the
        scheduler starts.
        """
        if func is None:
            return lambda decorated: self.register(decorated, **said)
        self._registered.append(params_of(func, said))
        return func

    async def run(self) -> None:
        """Until SIGTERM, SIGINT, `stop()`, or the cancellation of this task."""
        async with self.app:
            with stop_signals(self.stop):
                await self.sync()
                await self.serve()

    def stop(self, _reason: str = "stop()") -> None:
        self._stopping.set()

    async def sync(self) -> None:
        """Writes what the code has registered, and deals with what it does not register any more. Raises
        `ScheduleExists` where a name is somebody else's.
        """
        self._stopping.clear()
        names = [await self._write(params) for params in self._registered]
        async with self.app.database.session() as session:
            for name in await session.run(self._store.unregistered(self.name, names)):
                await self._let_go(session, name)

    async def serve(self) -> None:
        """Fires what is due until `stop()`, through every outage."""
        try:
            while not self._stopping.is_set():
                await self._rest(await self._round())
        finally:
            self.close()

    async def tick(self) -> float:
        """Fires what is due now; seconds until something is due again."""
        if self._session is None:
            self._session = await self.app.database.keep()
        seen: list[str] = []
        left: list[str] = []
        while rows := await self._session.run(self._store.due(without=seen)):
            seen += [row["name"] for row in rows]
            left += [row["name"] for row in rows if not await self._fire(self._session, row)]
            if self._stopping.is_set():
                break
        seconds = await self._session.run(self._store.next_due(without=left))
        return POLL if seconds is None else max(0.0, seconds)

    async def _write(self, params: ScheduleParams) -> str:
        columns = specify_schedule(params, self.app.serializer, self.app.config.allow)
        name: str = columns["name"]
        if not await self.app.put_schedule(columns, owner=self.name, replaces=True):
            raise ScheduleExists(
                f"the schedule {brief(name)} is not this scheduler's; delete it, or register another name"
            )
        return name

    async def _let_go(self, session: Session, name: str) -> None:
        match self.on_unregistered:
            case Unregistered.Pause:
                await session.run(self._store.pause(name))
            case Unregistered.Delete:
                await session.run(self._store.delete(name))

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _round(self) -> float:
        try:
            seconds = await self.tick()
        except (ServerUnreachable, psycopg.Error) as error:
            self._lose(error)
            return RETRY
        self._regain()
        return min(seconds, POLL)

    async def _fire(self, session: Session, row: Row) -> bool:
        """Whatever is wrong with one schedule, the others go on: jobs that are refused are passed over, and what nobody
        can read is paused. False: it is left to others, as it is only this process that cannot.
        """
        name: str = row["name"]
        try:
            schedule = Schedule.from_row(row, self.app.serializer)
            due, following = schedule.due(row["now"], is_running=row["is_running"]), schedule.tick_after(row["now"])
            specs = await self._specs(schedule, due)
        except _NOT_HERE as error:
            self._leave(name, error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever stands in the row
            events.emit(events.ScheduleUnfit(name, one_line(error)))
            await session.run(self._store.pause(name))
            return True
        self._left.discard(name)
        try:
            await self._move(session, schedule, following, due, specs)
        except Exception as error:
            if isinstance(error, ServerUnreachable) or (isinstance(error, psycopg.Error) and not is_refusal(error)):
                raise
            events.emit(events.ScheduleRefused(name, one_line(error)))
            await self._move(session, schedule, following)
        return True

    async def _specs(self, schedule: Schedule, due: Sequence[datetime]) -> Sequence[Spec]:
        """No jobs where a hook refuses them. It may have asked a database of its own: its errors are not ours."""
        try:
            return await self.app.specify_scheduled(schedule, due)
        except FunctionNotAllowed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a hook raises
            events.emit(events.ScheduleRefused(schedule.name, one_line(error)))
            return []

    async def _move(
        self, session: Session, schedule: Schedule, following: datetime | None, due: Sequence[datetime] = (),
        specs: Sequence[Spec] = (),
    ) -> None:  # fmt: skip
        jobs = [self._enqueue.enqueue(specs, always_notify=False)] if specs else []
        move = self._store.move(schedule.name, schedule.next_run_at, following, due[-1] if specs else None)
        with contextlib.suppress(psycopg.errors.DivisionByZero):  # somebody else has moved it
            await session.transact(move, *jobs)

    def _leave(self, name: str, error: Exception) -> None:
        if name not in self._left:
            self._left.add(name)
            events.emit(events.ScheduleLeft(name, one_line(error)))

    def _lose(self, error: Exception) -> None:
        self.close()
        if self._away_since is None:
            self._away_since = time.monotonic()
            events.emit(events.SchedulerAway(self.name, one_line(error)))

    def _regain(self) -> None:
        if self._away_since is not None:
            events.emit(events.SchedulerBack(self.name, time.monotonic() - self._away_since))
            self._away_since = None

    def close(self) -> None:
        """Of a scheduler whose `tick` was called by hand; `serve` does it itself."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @property
    def _store(self) -> ScheduleStore:
        return ScheduleStore(self.app.database.schema)

    @property
    def _enqueue(self) -> EnqueueStore:
        return EnqueueStore(self.app.database.schema)


def scheduler_of(app: Werk) -> Scheduler:
    """The one that the app's code has made, or one for what was made at run time."""
    if len(app.schedulers) > 1:
        names = ", ".join(scheduler.name for scheduler in app.schedulers)
        raise InvalidOption(f"the app has several schedulers ({names}); give one of them to each worker yourself")
    return app.schedulers[0] if app.schedulers else Scheduler(app)
