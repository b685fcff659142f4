"""The engine on a bench: a real database, the statements of workers and the operations of people, one after the other,
and a clock that is turned by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from pgwerk import Werk, WerkConfig
from pgwerk.ending import Endings, aborts
from pgwerk.execution import Attempt, Outcome, Verdict, decide
from pgwerk.store.exchange import Claimed, ExchangeStore, Range
from pgwerk.store.maintenance import MaintenanceStore
from pgwerk.store.workers import Pulse, WorkerStore
from tests.db.portrait import Line, broken, portrait
from tests.faults.model import HOUR, KEPT

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

T = TypeVar("T")

QUEUES, PRIORITIES = ("default", "other"), (1, 0)
LANES = [Range(queue, priority, -(2**62), 2**63 - 1) for priority in PRIORITIES for queue in QUEUES]
VERDICTS = {
    "returned": Verdict.RETURNED, "raised": Verdict.RAISED, "timed out": Verdict.RAISED, "aborted": Verdict.ABORTED,
    "expired": Verdict.EXPIRED, "interrupted": Verdict.INTERRUPTED, "unstarted": Verdict.UNSTARTED,
}  # fmt: skip
_TABLES = "select tablename from pg_tables where schemaname = current_schema() and tablename <> 'migration' order by 1"
_TIMES = """
    select table_name, array_agg(column_name::text)
    from information_schema.columns c join information_schema.tables using (table_schema, table_name)
    where table_schema = current_schema() and table_type = 'BASE TABLE' and data_type = 'timestamp with time zone'
    group by 1
"""


class Bench:
    def __init__(self, runner: asyncio.Runner, connection: psycopg.Connection[Any], app: Werk) -> None:
        self._runner, self._connection, self.app = runner, connection, app
        self._session = self.run(app.database.keep())
        self.schema = schema = app.database.schema
        self._claims, self._endings = ExchangeStore(schema), Endings(schema)
        self._workers, self._maintenance = WorkerStore(schema), MaintenanceStore(schema)
        self._reset = f"truncate {', '.join(name for (name,) in self.query(_TABLES))} restart identity"
        shifts = [
            f"t{number} as (update {table} set {', '.join(f'{time} = {time} - %(gone)s::interval' for time in times)})"
            for number, (table, times) in enumerate(self.query(_TIMES))
        ]
        self._pass = f"with {', '.join(shifts)} select"

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(doing)

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(text, values or None)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._session.close()

    def reset(self) -> None:
        self.query(self._reset)

    def hours_pass(self, hours: int) -> None:
        self._connection.execute(self._pass, {"gone": f"{hours} hours"})

    def portrait(self) -> list[Line]:
        return portrait(self.query)

    def broken(self) -> list[str]:
        return broken(self.query)

    def register(self) -> int:
        return self.run(self._session.run(self._workers.register("w", "AsyncWorker", QUEUES, 10, 10.0)))

    def bury(self, worker: int) -> None:
        assert self.run(self._session.run(self._workers.declare_dead(Pulse(worker, 0, 10.0)))) == "w"

    def claim(self, worker: int, claim_no: int, room: int, *, careful: bool) -> list[Claimed]:
        """As a worker does: by the statement for jobs without groups, until it meets one with."""
        statement = self._claims.claim_grouped if careful else self._claims.claim
        rows = self.run(self._session.run(statement(worker, claim_no, room, LANES, is_followed=False)))
        assert careful or {row.fate for row in rows} <= {"taken"} or all(row.fate == "left" for row in rows)
        if any(row.fate == "left" for row in rows) and not careful:
            return self.claim(worker, claim_no, room, careful=True)
        return sorted(row for row in rows if row.fate == "taken")

    def settle(self, outcomes: Sequence[Outcome]) -> set[int]:
        """What somebody aborts is not sent back, and is ended in the next turn."""
        found = self.run(self._endings.end(self._session, outcomes)).found
        return found | self.run(self._endings.end(self._session, aborts(outcomes, found))).found

    def promote(self) -> None:
        self.run(self._session.run(self._maintenance.promote(float("-inf"))))

    def sweep(self) -> None:
        """What a round has ended, the next one may forget. Silence has been watched for long enough."""
        silent = self.run(self._session.run(self._workers.beat(0, 0.0))).silent
        self.run(self._session.run(self._workers.declare_silent(silent)))
        self.run(self.app.sweep())
        self.run(self.app.sweep())


def outcome(row: Claimed, worker: int, claim_no: int, verdict: str) -> Outcome:
    """As the worker decides; but a backoff of so many seconds takes so many hours here."""
    attempt = Attempt(row.attempt, row.max_attempts or 1, row.retry_intervals, row.attempts_before or 0)
    decision = decide(VERDICTS[verdict], attempt, 0.0)
    delay = decision.delay if row.retry_intervals else decision.delay * HOUR
    result, error = (b"1", None) if verdict == "returned" else (None, verdict)
    return Outcome(
        row.job_id, worker, claim_no, decision.status, delay, result, error, attempt, verdict == "expired",
        row.group_key is not None, row.has_sequel is not False,
    )  # fmt: skip


@contextlib.contextmanager
def bench(dsn: str) -> Iterator[Bench]:
    """In a schema of its own."""
    schema = f"bench_{secrets.token_hex(6)}"
    config = WerkConfig(result_ttl=KEPT["complete"] * HOUR, failure_ttl=KEPT["failed"] * HOUR)
    with asyncio.Runner() as runner, psycopg.connect(dsn, autocommit=True) as connection:
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False)
        runner.run(pool.open())
        app = Werk(dsn, schema=schema, config=config, pool=pool)
        runner.run(app.connect())
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
        made = Bench(runner, connection, app)
        try:
            yield made
        finally:
            made.close()
            runner.run(app.disconnect())
            runner.run(pool.close())
            connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))
