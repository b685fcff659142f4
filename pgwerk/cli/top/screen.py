"""The live screen: four tables that are looked at again and again, and keys for what is under the cursor."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, ClassVar

import psycopg
from rich.text import Text
from textual import on, work
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Header, Sparkline, Static, TabbedContent, TabPane

from pgwerk.cli.output import words
from pgwerk.cli.queues import QUEUE_COLUMNS
from pgwerk.cli.top.detail import Detail
from pgwerk.cli.top.view import View, failed_rows, look, queue_rows, running_rows, worker_rows
from pgwerk.errors import WerkError, one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from textual.app import ComposeResult

    from pgwerk.app import Werk

    Rows = Callable[[View], Mapping[str, Sequence[object]]]

TABLES: dict[str, tuple[Sequence[str], Rows]] = {
    "queues": (QUEUE_COLUMNS, queue_rows),
    "workers": (("id", "name", "kind", "state", "running", "queues", "since"), worker_rows),
    "running": (("id", "function", "queue", "worker", "for", "attempt"), running_rows),
    "failed": (("id", "function", "queue", "ago", "error"), failed_rows),
}
OF_JOBS = ("running", "failed")
LONGEST = 40  # characters of a cell that others follow


class Table(DataTable[Text]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "open")]


class Board(Screen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n), f"turn_to('{name}')", name, show=False) for n, name in enumerate(TABLES, 1)),
        Binding("tab", "next", "next table", priority=True),
        Binding("r", "retry", "retry"),
        Binding("c", "cancel", "cancel"),
        Binding("p", "pause", "pause or resume"),
        Binding("q", "app.quit", "quit"),
    ]

    def __init__(self, werk: Werk, interval: float) -> None:
        super().__init__()
        self._werk, self._interval = werk, interval
        self._view: View | None = None
        self._soon = asyncio.Event()
        self._doomed: str | None = None  # the job for which the cancel key was pressed once
        self._summary, self._pace = Static("looking …", id="summary", markup=False), Sparkline([])
        self._tabs = TabbedContent(*TABLES)
        self.tables = {name: Table(cursor_type="row") for name in TABLES}

    def compose(self) -> ComposeResult:
        yield Header()
        yield self._summary
        yield self._pace
        with self._tabs:
            for name, (columns, _) in TABLES.items():
                with TabPane(name, id=name):
                    self.tables[name].add_columns(*columns)
                    yield self.tables[name]
        yield Footer()

    @work
    async def on_mount(self) -> None:
        """However long a look takes, the next one begins when it has ended."""
        while True:
            self._soon.clear()
            await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._soon.wait()

    async def _look(self) -> None:
        """A server that is away is said so, and looked for again."""
        try:
            self._view = await look(self._werk)
        except (WerkError, psycopg.Error) as error:
            self._summary.update(f"no answer, trying again: {one_line(error)}")
            self._summary.add_class("lost")
            return
        self._summary.update(self._view.summary)
        self._summary.remove_class("lost")
        self._pace.data = self._view.ended
        for name, (_, rows) in TABLES.items():
            _fill(self.tables[name], rows(self._view))

    def _chosen(self, *tables: str) -> str | None:
        """What the cursor is on, if it is in one of these tables."""
        if self._tabs.active in tables:
            return _key(self.tables[self._tabs.active])
        self.notify(f"that key is for {' and '.join(tables)}", severity="warning")
        return None

    def action_turn_to(self, name: str) -> None:
        self._tabs.active = name
        self.tables[name].focus()

    def action_next(self) -> None:
        names = list(TABLES)
        self.action_turn_to(names[(names.index(self._tabs.active) + 1) % len(names)])

    @on(DataTable.RowSelected)
    async def open_chosen(self) -> None:
        if (job := self._chosen(*OF_JOBS)) is not None:
            await self._do(self._open(int(job)))

    async def _open(self, job: int) -> None:
        explanation = await self._werk.explain_job(job)
        await self.app.push_screen(Detail(explanation, await self._werk.get_executions(job)))

    async def action_retry(self) -> None:
        if (job := self._chosen("failed")) is not None:
            await self._do(self._told(self._werk.requeue_job(job), f"job {job} runs again"))

    async def action_cancel(self) -> None:
        """Asked twice: between two looks another job may have come under the cursor."""
        if (job := self._chosen("running")) is None:
            return
        if job != self._doomed:
            self._doomed = job
            self.notify(f"press c again to end job {job}", severity="warning")
            return
        self._doomed = None
        await self._do(self._told(self._werk.abort_job(job), f"job {job} was asked to end"))

    async def action_pause(self) -> None:
        if (queue := self._chosen("queues")) is not None and self._view is not None:
            is_paused = any(each.queue == queue and each.paused_at for each in self._view.queues)
            call = self._werk.resume_queue if is_paused else self._werk.pause_queue
            await self._do(self._told(call(queue), f"{queue} goes on" if is_paused else f"{queue} rests"))

    async def _told(self, call: Awaitable[bool], done: str) -> str:
        return done if await call else "it was too late for that"

    async def _do(self, act: Awaitable[str | None]) -> None:
        try:
            said = await act
        except (WerkError, psycopg.Error) as error:
            self.notify(one_line(error), severity="error", markup=False)
            return
        if said:
            self.notify(said, markup=False)
        self._soon.set()


class Top(App[None]):
    TITLE = "werk top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: 1; padding: 0 1; }
    #summary.lost { background: $error; }
    Sparkline { height: 3; margin: 0 1; }
    TabPane { padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", show=False, priority=True)]

    def __init__(self, werk: Werk, interval: float) -> None:
        super().__init__()
        self._werk, self._interval = werk, interval

    def get_default_screen(self) -> Board:
        return Board(self._werk, self._interval)


def _fill(table: DataTable[Text], rows: Mapping[str, Sequence[object]]) -> None:
    """The cursor stays on its row while that is there, else on its line; the scroll stays."""
    line, offset, chosen = table.cursor_row, table.scroll_offset, _key(table)
    table.clear()
    for key, cells in rows.items():
        *first, last = map(words, cells)
        table.add_row(*(Text(_cut(cell)) for cell in first), Text(last), key=key)
    if rows:
        line = table.get_row_index(chosen) if chosen and chosen in rows else min(line, len(rows) - 1)
        table.move_cursor(row=line, animate=False, scroll=False)
    table.scroll_to(*offset, animate=False)


def _cut(cell: str) -> str:
    """One long name would push all else off the screen."""
    return cell if len(cell) <= LONGEST else f"{cell[: LONGEST - 1]}…"


def _key(table: DataTable[Text]) -> str | None:
    return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value if table.row_count else None
