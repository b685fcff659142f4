"""Vacuum, and who keeps it from its work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pgwerk.doctor.finding import failure, ok, warning

if TYPE_CHECKING:
    from pgwerk.doctor.finding import Finding, Patient
    from pgwerk.store.doctor import Suspect

LONG = 300.0  # seconds of a transaction that ordinary work does not take
OLD = 50_000  # transactions behind, from which on it matters
IDLE = 60.0  # seconds
OVERDUE = 10  # times as many dead rows as call vacuum
MANY = 50_000  # dead rows, below which it does not matter


async def autovacuum(patient: Patient) -> Finding:
    """It is on, for the server and for every table."""
    tables = await patient.ask(patient.store.tables())
    if not all(table.is_on for table in tables):
        return failure(
            "it is off for the whole server, and tables only grow",
            "alter system set autovacuum = on; alter system set track_counts = on; select pg_reload_conf()",
        )
    off = [table.name for table in tables if not table.is_vacuumed]
    if off:
        mend = f'alter table "{patient.database.schema}"."{off[0]}" reset (autovacuum_enabled)'
        return failure(f"it is off for {', '.join(off)}, which only grow", mend)
    latest = max((table.vacuumed_at for table in tables if table.vacuumed_at), default=None)
    return ok("on, for all tables" + (f"; last here {_ago(latest)}" if latest else ""))


async def bloat(patient: Patient) -> Finding:
    """Dead rows are not many times more than those that call vacuum."""
    tables = await patient.ask(patient.store.tables())
    late = [table for table in tables if table.dead > max(MANY, OVERDUE * table.due_at)]
    if late:
        words = ", ".join(f"{each.name} has {each.dead} dead rows and {each.live} living" for each in late)
        return warning(
            f"{words}; vacuum should have come at {late[0].due_at:.0f}",
            f'see horizon; if nobody holds it: vacuum (analyze) "{patient.database.schema}"."{late[0].name}"',
        )
    dead, size = sum(table.dead for table in tables), sum(table.bytes for table in tables)
    return ok(f"{dead} dead rows in {size >> 20} MB of tables")


async def horizon(patient: Patient) -> Finding:
    """Nobody holds an old snapshot: sessions, prepared transactions, standbys and their slots."""
    found = await patient.ask(patient.store.holders(LONG, OLD))
    if found:
        return warning(f"{_named(found)}: nothing that died since can be removed", found[0].mend)
    words = f"nobody has held a snapshot for more than {LONG:.0f} s, and no standby for more than {OLD} transactions"
    return await _none(patient, words)


async def idle_sessions(patient: Patient) -> Finding:
    """Nobody has left a transaction open."""
    found = await patient.ask(patient.store.idlers(IDLE))
    if found:
        mend = f"{found[0].mend}; set idle_in_transaction_session_timeout, so that none comes again"
        return warning(f"in a transaction that they do not end: {_named(found)}", mend)
    return await _none(patient, f"nobody has been idle in a transaction for more than {IDLE:.0f} s")


async def _none(patient: Patient, words: str) -> Finding:
    hidden = await patient.ask(patient.store.hidden_sessions())
    if not hidden:
        return ok(words)
    role = (await patient.ask(patient.store.server())).role
    return warning(
        f"{words}, as far as {role} may see: {hidden} sessions of other roles are hidden from it",
        f'grant pg_read_all_stats to "{role}"',
    )


def _named(suspects: list[Suspect]) -> str:
    return ", ".join(
        each.who + (f" since {each.since:%Y-%m-%d %H:%M:%S %Z}" if each.since else "") for each in suspects
    )


def _ago(moment: datetime) -> str:
    return f"{(datetime.now(UTC) - moment).total_seconds():.0f} s ago"
