"""What may be wrong with a server, a schema and its workers, and what mends it. Nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from pgwerk.doctor.finding import Check, Finding, Patient, Verdict, warning
from pgwerk.doctor.reaching import budget, clock, connection, notifications, pooler
from pgwerk.doctor.structure import indexes, plans, rights, schema
from pgwerk.doctor.upkeep import autovacuum, bloat, horizon, idle_sessions
from pgwerk.doctor.work import functions, queues, workers
from pgwerk.errors import WerkError, one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["CHECKS", "Finding", "Patient", "Verdict", "examine"]

OF_SERVER: tuple[Check, ...] = (pooler, notifications, clock, horizon, idle_sessions)
OF_SCHEMA: tuple[Check, ...] = (rights, indexes, plans, autovacuum, bloat, budget, workers, queues, functions)
CHECKS = (connection, *OF_SERVER, schema, *OF_SCHEMA)


async def examine(patient: Patient) -> AsyncIterator[tuple[str, Finding]]:
    """Each check's name, and what it found. Raises `ServerUnreachable`: nothing else can be said then."""
    yield name_of(connection), await connection(patient)
    is_there = await patient.ask(patient.store.is_migrated())
    for check in (*OF_SERVER, schema, *(OF_SCHEMA if is_there else ())):
        yield name_of(check), await _found(check, patient)


def name_of(check: Check) -> str:
    return str(getattr(check, "__name__", check)).replace("_", " ")


async def _found(check: Check, patient: Patient) -> Finding:
    """One that cannot look says so, and the others go on."""
    try:
        return await check(patient)
    except psycopg.errors.InsufficientPrivilege as error:
        return warning(f"could not look: {one_line(error)}", "see rights")
    except (psycopg.Error, WerkError, TimeoutError) as error:
        return warning(f"could not look: {one_line(error)}", "look again; if that stays, the server's log has more")
