"""What people do with schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgwerk import checks
from pgwerk.control import Control
from pgwerk.errors import InvalidOption, ScheduleExists, ScheduleNotFound, brief
from pgwerk.schedule import Schedule, params_of, rhythm_of, specify_schedule
from pgwerk.store.schedules import ScheduleStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pgwerk.wire import Row


class Scheduling(Control):
    """The part of an app that makes and steers schedules. A scheduler sees what is done here within seconds."""

    async def create_schedule(self, func: Callable[..., Any] | str, /, **said: Any) -> Schedule:
        """`cron` or `interval`, and whatever else `ScheduleParams` has. Raises `ScheduleExists`."""
        columns = specify_schedule(params_of(func, said), self.serializer, self.config.allow)
        if not await self.put_schedule(columns, owner=None, replaces=False):
            raise ScheduleExists(
                f"there is a schedule {columns['name']!r} already; change that one, or take another name"
            )
        return await self.get_schedule(columns["name"])

    async def list_schedules(self) -> list[Schedule]:
        """By name. Arguments or options that cannot be read are the `NotSerializable` that says why."""
        return [Schedule.from_row(row, self.serializer, is_one_of_many=True) for row in await self._rows(None)]

    async def get_schedule(self, name: str) -> Schedule:
        """Raises `ScheduleNotFound`."""
        return Schedule.from_row(await self._row(name), self.serializer)

    async def update_schedule(self, name: str, /, **said: Any) -> Schedule:
        """Changes what is said, and nothing else; `func` may be said too. One that code has registered is as the code
        says again when its scheduler starts. Raises `ScheduleNotFound`.
        """
        if "name" in said or "paused" in said:
            raise InvalidOption("a schedule keeps its name, and is paused by pause_schedule; leave both out")
        while True:
            schedule = await self.get_schedule(name)
            columns = specify_schedule(params_of(*schedule.changed(said)), self.serializer, self.config.allow)
            if await self.put_schedule(columns, schedule.owner, replaces=True, seen_at=schedule.updated_at):
                return await self.get_schedule(name)

    async def pause_schedule(self, name: str) -> bool:
        """False: it is paused already, or not there."""
        async with self._session() as session:
            return await session.run(self._schedules.pause(_named(name)))

    async def resume_schedule(self, name: str) -> bool:
        """From its next tick on: what it passed over was not meant to run."""
        row = await self._row(name)
        schedule = Schedule.from_row(row, self.serializer, is_one_of_many=True)  # only its rhythm matters here
        async with self._session() as session:
            now = await session.run(self._schedules.clock())
            return await session.run(self._schedules.resume(name, schedule.tick_after(now)))

    async def delete_schedule(self, name: str) -> bool:
        """Its jobs stay."""
        async with self._session() as session:
            return await session.run(self._schedules.delete(_named(name)))

    async def _row(self, name: str) -> Row:
        rows = await self._rows(_named(name))
        if not rows:
            raise ScheduleNotFound(f"there is no schedule {brief(name)}; it was never made, or it was deleted")
        return rows[0]

    async def _rows(self, name: str | None) -> list[Row]:
        async with self._session() as session:
            return await session.run(self._schedules.get(name))

    async def put_schedule(
        self, columns: dict[str, Any], owner: str | None, *, replaces: bool, seen_at: datetime | None = None
    ) -> bool:
        """For those who own it: `columns` are those of `specify_schedule`."""
        async with self._session() as session:
            now = await session.run(self._schedules.clock())
            first = rhythm_of(columns["cron"], columns["interval_secs"], columns["tz"], now).after(now)
            put = self._schedules.put(columns, owner=owner, next_run_at=first, replaces=replaces, seen_at=seen_at)
            return await session.run(put)

    @property
    def _schedules(self) -> ScheduleStore:
        return ScheduleStore(self.database.schema)


def _named(name: str) -> str:
    return checks.text("a schedule's name", name)
