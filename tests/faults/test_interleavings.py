"""Two sessions, every order of their statements: what comes of it is what comes of the one after the other."""

from __future__ import annotations

import os
import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
import pytest
from psycopg import AsyncConnection, sql

from tests.db.portrait import LINES, Line, broken
from tests.faults.stepping import MOST_STEPS, Play, Side, Stage, look
from tests.faults.worlds import DEAD, OTHER, Deed, Scene, World, scenes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgwerk import Werk

SCENES = int(os.environ.get("PGWERK_TEST_SCENES", "5"))
RELATIONS = os.environ.get("PGWERK_TEST_RELATIONS", "same,same of a group").split(",")
# What is lawful although neither order gives it: how the lost attempt of an aborted job is called, and the priority of
# the callback of a job whose priority is changed while it is cancelled.
ALSO_LAWFUL = {("rescue", "abort"), ("cancel", "update"), ("delete", "update")}

Outcome: TypeAlias = tuple[tuple[str, ...], tuple[Line, ...]]
"""What the two answered, and all jobs."""


class Trial:
    """Every order of one scene."""

    def __init__(self, scene: Scene, world: World, stage: Stage, observer: AsyncConnection[Any]) -> None:
        self.scene, self._world, self._stage, self._observer = scene, world, stage, observer
        self.counts = Counter[str]()
        self._passed: set[tuple[Any, ...]] = set()
        self._jobs, self._newest = (0, 0), 0

    async def run(self) -> None:
        self._jobs = await self._world.build(self.scene)
        self._newest = max(line[0] for line in self._world.query(LINES))
        lawful = [await self._serial(0), await self._serial(1)]
        orders: list[list[int]] = [[]]
        while orders:
            play = await self._play(orders.pop(), is_free=True)
            orders += play.branches
            if not play.is_known:
                await self._judge(play, lawful)

    async def _serial(self, first: int) -> tuple[Outcome, Outcome]:
        play = await self._play([first] * MOST_STEPS, is_free=False)
        now = self._outcome()
        later = await self._quiet()
        assert not (wrong := broken(self._world.query)), f"{self.scene.name}: {wrong} after {play.trail}"
        return now, later

    async def _judge(self, play: Play, lawful: list[tuple[Outcome, Outcome]]) -> None:
        found = self._outcome()
        self.counts["orders"] += 1
        if found in [now for now, _ in lawful]:
            return
        self.counts["left for the next round"] += 1
        later = await self._quiet()
        if (self.scene.first, self.scene.second) in ALSO_LAWFUL:
            assert not (wrong := broken(self._world.query)), f"{self.scene.name}: {wrong} after {play.trail}"
            return
        said = f"{self.scene.name}\nplayed: {', '.join(play.trail)}\n"
        assert later in [after for _, after in lawful], said + _compared(later, [after for _, after in lawful])
        assert not (wrong := broken(self._world.query)), said + "; ".join(wrong)
        assert not all(deed.tells for deed in self.scene.deeds), said + _compared(found, [now for now, _ in lawful])

    async def _quiet(self) -> Outcome:
        answers = self._answers()
        await self._world.quieten()
        return answers, self._lines()

    def _outcome(self) -> Outcome:
        return self._answers(), self._lines()

    def _answers(self) -> tuple[str, ...]:
        pairs = zip(self._stage.sides, self.scene.deeds, strict=True)
        return tuple(side.answer if deed.tells or "Error" in side.answer else "" for side, deed in pairs)

    def _lines(self) -> tuple[Line, ...]:
        """What was made meanwhile has no name: numbers are given in the order of coming."""

        def old(number: int) -> int:
            return min(number, self._newest + 1)

        lines = [Line(*row) for row in self._world.query(LINES)]
        plain = [
            line._replace(
                id=old(line.id), subject=line.subject and old(line.subject), unmet=[old(each) for each in line.unmet]
            )
            for line in lines
        ]
        return tuple(sorted(plain, key=repr))

    async def _play(self, order: list[int], *, is_free: bool) -> Play:
        self._world.restore()
        workers = {"same": (DEAD, DEAD), "callback": (OTHER, OTHER)}.get(self.scene.relation.split()[0], (DEAD, OTHER))
        deeds = [
            partial(_do, deed, job, worker)
            for deed, job, worker in zip(self.scene.deeds, self._jobs, workers, strict=True)
        ]
        play = await self._stage.play(deeds, order, self._is_known if is_free else None)
        self.counts["deadlocks"] += play.deadlocks
        return play

    async def _is_known(self) -> bool:
        """Whether every order that goes on from here has been played from the same state of everything."""
        state = *[await side.view() for side in self._stage.sides], await look(self._observer)
        is_known = state in self._passed
        self._passed.add(state)
        return is_known


async def _do(deed: Deed, job: int, worker: int, side: Side) -> Any:
    return await deed.do(side, job, worker)


def _compared(found: Outcome, lawful: list[Outcome]) -> str:
    parts = [f"found: {found[0]}", *map(str, found[1])]
    for each in lawful:
        parts += [f"lawful: {each[0]}", *[f"  {line}" for line in each[1] if line not in found[1]]]
    return "\n".join(parts)


@pytest.fixture
async def ground(app: Werk, dsn: str, schema: str) -> AsyncIterator[tuple[World, Stage, AsyncConnection[Any]]]:
    path = sql.SQL("set search_path to {}").format(sql.Identifier(schema))
    session = await app.database.keep()
    async with Side.on("first", app) as first, Side.on("second", app) as second:
        with psycopg.connect(dsn, autocommit=True) as connection:
            async with await AsyncConnection.connect(dsn, autocommit=True) as observer:
                connection.execute(path)
                await observer.execute(path)
                yield World(app, session, connection), Stage((first, second), observer), observer
    session.close()


async def test_every_order_of_two_sessions_is_as_good_as_one_after_the_other(
    ground: tuple[World, Stage, AsyncConnection[Any]],
) -> None:
    seed = int(os.environ.get("PGWERK_TEST_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    world, stage, observer = ground
    counts = Counter[str]()
    everything = [scene for scene in scenes() if scene.relation in RELATIONS]
    for scene in random.Random(seed).sample(everything, min(SCENES, len(everything))):
        trial = Trial(scene, world, stage, observer)
        await trial.run()
        counts += trial.counts
        counts["scenes"] += 1
    print(dict(counts))
