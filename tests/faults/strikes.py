"""What can happen to those who are at work, each at a moment of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.faults.crew import PATIENCE
from tests.postgres import rows, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.crew import Crew
    from tests.postgres import Postgres


def on_processes(crew: Crew) -> list[Callable[[], None]]:
    """A kill twice as often as the others; some that are stopped wake up when they have been declared dead."""
    return [
        crew.kill_a_worker, crew.kill_a_worker, crew.retire_a_worker, crew.cut_connections, crew.kill_the_producer,
        lambda: crew.freeze_a_worker(0.2), lambda: crew.freeze_a_worker(2 * PATIENCE),
    ]  # fmt: skip


def on_server(server: Postgres, crew: Crew) -> dict[str, Callable[[], None]]:
    """Each comes back once the server answers again."""

    def restart(mode: str) -> None:
        crew.wait_for_all()
        crew.log.fault(f"the server restarted, {mode}")
        server.stop(mode)
        place = crew.tell_to_stop()  # it has nobody to say good-bye to
        server.start()
        crew.replace(place)

    def crash() -> None:
        crew.wait_for_all()
        crew.log.fault("the server killed")
        server.kill()
        server.restart_after_crash()

    def lose_a_backend() -> None:
        crew.kill_a_backend()
        wait_until(lambda: _answers(server.dsn), "the server answers again")

    return {
        "fast": lambda: restart("fast"), "immediate": lambda: restart("immediate"),
        "killed": crash, "a backend killed": lose_a_backend,
    }  # fmt: skip


def _answers(dsn: str) -> bool:
    try:
        return rows(dsn, "select true") == [(True,)]
    except psycopg.OperationalError:
        return False
