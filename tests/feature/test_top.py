"""The live screen, with a terminal that exists only in memory and a database that is real."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from textual.widgets import Sparkline, Static, TabbedContent

from pgwerk import AsyncWorker, JobStatus, Werk
from pgwerk.cli.top.detail import Detail
from pgwerk.cli.top.screen import TABLES, Board, Top
from tests import handlers
from tests.feature.test_control import runs, working
from tests.feature.test_what_follows import asked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from textual.pilot import Pilot


@asynccontextmanager
async def looking(app: Werk) -> AsyncIterator[Pilot[None]]:
    async with Top(app, interval=0.2).run_test(size=(120, 40)) as pilot:
        yield pilot


async def until(pilot: Pilot[None], fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not fact():
            await pilot.pause(0.05)


def board(pilot: Pilot[None]) -> Board:
    found = pilot.app.screen_stack[0]
    assert isinstance(found, Board)
    return found


def shown(pilot: Pilot[None], table: str) -> list[list[str]]:
    found = board(pilot).tables[table]
    return [[str(cell) for cell in found.get_row_at(row)] for row in range(found.row_count)]


def summary(pilot: Pilot[None]) -> str:
    return str(board(pilot).query_one("#summary", Static).content)


async def test_queues_workers_what_runs_and_what_has_failed(app: Werk) -> None:
    failed = await asked(app, handlers.fail, "[b]bold words[/b]")
    async with working(app):
        running = await asked(app, handlers.sleep, 60)
        await runs(app, running)
        await app.wait_for(failed, timeout=20)
        async with looking(app) as pilot:
            await until(pilot, lambda: bool(shown(pilot, "failed")))
            assert [row[0] for row in shown(pilot, "queues")] == ["default"]
            assert [row[2:5] for row in shown(pilot, "workers")] == [["AsyncWorker", "alive", "1/10"]]
            assert [row[:3] for row in shown(pilot, "running")] == [
                [str(running.id), "tests.handlers.sleep", "default"]
            ]
            assert shown(pilot, "failed")[0][-1] == "ValueError: [b]bold words[/b]"
            assert summary(pilot).startswith("queued 0 · at work 1 · slots 10 of 1 workers · ended ")


async def test_keys_pause_and_resume_the_chosen_queue(app: Werk) -> None:
    await asked(app, handlers.noop, _queue="a")
    await asked(app, handlers.noop, _queue="b")
    async with looking(app) as pilot:
        await until(pilot, lambda: len(shown(pilot, "queues")) == 2)
        await pilot.press("1", "down", "p")
        await until(pilot, lambda: shown(pilot, "queues")[1][1] != "-")
        assert [queue.queue for queue in await app.list_queues() if queue.paused_at] == ["b"]
        await pilot.press("p")
        await until(pilot, lambda: shown(pilot, "queues")[1][1] == "-")
        assert not any(queue.paused_at for queue in await app.list_queues())


async def test_keys_open_retry_and_cancel_jobs(app: Werk) -> None:
    failed = await asked(app, handlers.fail, "on purpose")
    await AsyncWorker(app, burst=True).run()
    async with looking(app) as pilot:
        await until(pilot, lambda: bool(shown(pilot, "failed")))
        await pilot.press("4", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Detail))
        reasons = str(pilot.app.screen.query_one("#reasons", Static).content)
        assert reasons.startswith("it has ended: failed at ")
        await pilot.press("escape", "r")
        await until(pilot, lambda: not shown(pilot, "failed"))
        assert (await app.get_job(failed)).status == JobStatus.Queued
        async with working(app, queues=["long"]):
            long = await asked(app, handlers.sleep, 60, _queue="long")
            await until(pilot, lambda: bool(shown(pilot, "running")))
            await pilot.press("3", "c")
            assert (await app.get_job(long)).status == JobStatus.Active
            await pilot.press("c")
            assert (await app.wait_for(long, timeout=20)).status == JobStatus.Aborted


async def test_tab_goes_round_and_a_key_for_another_table_does_nothing(app: Werk) -> None:
    waits = await asked(app, handlers.noop)
    async with looking(app) as pilot:
        tables = pilot.app.screen.query_one(TabbedContent)
        seen = []
        for _ in range(len(TABLES) + 1):
            seen.append(tables.active)
            await pilot.press("tab")
        assert seen == [*TABLES, "queues"]
        await pilot.press("r", "c")
        assert (await app.get_job(waits)).status == JobStatus.Queued


async def test_a_server_that_is_away_is_looked_for_again(app: Werk, query: Any) -> None:
    async with looking(app) as pilot:
        await until(pilot, lambda: summary(pilot).startswith("queued 0"))
        query("alter table pause rename to gone")
        await until(pilot, lambda: summary(pilot).startswith("no answer, trying again: "))
        query("alter table gone rename to pause")
        await until(pilot, lambda: summary(pilot).startswith("queued 0"))


async def test_its_parts_have_their_heights_and_an_outage_is_red(app: Werk) -> None:
    async with looking(app) as pilot:
        await until(pilot, lambda: board(pilot).query_one("#summary").size.height == 1)
        assert board(pilot).query_one(Sparkline).size.height == 3
        board(pilot).query_one("#summary").add_class("lost")
        await until(pilot, lambda: board(pilot).query_one("#summary").styles.background.a == 1)


async def test_a_long_name_leaves_room_for_the_rest(app: Werk) -> None:
    await asked(app, handlers.noop, _queue="q" * 100)
    async with looking(app) as pilot:
        await until(pilot, lambda: bool(shown(pilot, "queues")))
        assert shown(pilot, "queues")[0][0] == f"{'q' * 39}…"
