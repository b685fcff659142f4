"""Tables, indexes, and what one may do with them."""

from __future__ import annotations

import re
import secrets
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pgwerk import migrate
from pgwerk.doctor.finding import Verdict, failure, ok, warning
from pgwerk.errors import SchemaError, SchemaMissing, SchemaTooNew
from pgwerk.execution import Outcome
from pgwerk.sql import migrations
from pgwerk.store.doctor import plan_of
from pgwerk.store.ending import EndingStore
from pgwerk.store.exchange import ExchangeStore, Gap, Range
from pgwerk.store.maintenance import MaintenanceStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgwerk.doctor.finding import Finding, Patient
    from pgwerk.store.doctor import Index
    from pgwerk.wire import Call

LARGE = 2**20  # bytes of a table that is not to be read as a whole
LEFT_BEHIND = re.compile(r"_cc(new|old)\d*$")  # what Postgres calls those that a REINDEX CONCURRENTLY makes and drops


async def schema(patient: Patient) -> Finding:
    """Its version and that of this pgwerk go together."""
    name = patient.database.schema
    try:
        await migrate.check(patient.database)
    except SchemaError as error:
        found, _, mend = str(error).rpartition("; ")
        return failure(found, mend + await _by_whom(patient, error))
    version, known = await migrate.version(patient.database), migrations(name)[-1].version
    newer = f", newer than this pgwerk ({known}), which it serves" if version > known else ""
    return ok(f"{name!r} is at version {version}{newer}")


async def _by_whom(patient: Patient, error: SchemaError) -> str:
    """Where this role may not run what is missing."""
    if isinstance(error, SchemaTooNew):
        return ""
    may = await patient.ask(patient.store.may_migrate())
    is_able = may.may_create if isinstance(error, SchemaMissing) and may.owner is None else may.may_alter
    return "" if is_able else f", as {may.owner or 'a role that may create schemas'}"


async def rights(patient: Patient) -> Finding:
    """The role may do all that jobs need, and migrate where the app does so itself."""
    name, role = patient.database.schema, (await patient.ask(patient.store.server())).role
    lacking = await patient.ask(patient.store.lacking_rights())
    if lacking:
        groups = groupby(lacking, key=itemgetter(1))
        words = ", ".join(f"{'/'.join(right for right, _ in each)} on {table}" for table, each in groups)
        return failure(f"{role} lacks {words}", _grant(role, name, lacking))
    may = await patient.ask(patient.store.may_migrate())
    if patient.config.auto_migrate and not may.may_alter:
        return warning(
            f"{role} may do all that jobs need, and cannot migrate: the schema is {may.owner}'s",
            f"run werk migrate as {may.owner} before each deploy, and set auto_migrate=False",
        )
    return ok(f"{role} may do all that jobs need" + (", and migrate" if may.may_alter else ""))


def _grant(role: str, schema: str, lacking: list[tuple[str, str]]) -> str:
    """The first step to it: who may not use the schema may do nothing else in it either."""
    if ("usage", "the schema") in lacking:
        return f'grant usage on schema "{schema}" to "{role}"'
    right, _ = lacking[0]
    kind = {"usage": "all sequences in schema", "execute": "all functions in schema"}.get(right)
    return f'grant {right} on {kind or "all tables in schema"} "{schema}" to "{role}"'


async def indexes(patient: Patient) -> Finding:
    """Those that migrations make (in a schema that is rolled back) are there, as they make them, and valid."""
    schema = patient.database.schema
    there = await patient.ask(patient.store.indexes(schema))
    broken = [index.name for index in there if not index.is_valid and not index.is_building]
    invalid = [name for name in broken if not LEFT_BEHIND.search(name)]
    if invalid:
        mend = f'reindex index concurrently "{schema}"."{invalid[0]}"'
        return failure(f"not valid, and of no use: {', '.join(invalid)}", mend)
    found = await _compared(patient, {index.name: index for index in there})
    if broken and found.verdict != Verdict.Failure:
        mend = f'drop index concurrently "{schema}"."{broken[0]}"'
        return warning(f"left behind by a reindex that was cut short: {', '.join(broken)}", mend)
    return found


async def _compared(patient: Patient, there: dict[str, Index]) -> Finding:
    """With what migrations make."""
    schema = patient.database.schema
    if await migrate.version(patient.database) != migrations(schema)[-1].version:
        return ok(f"{len(there)}, all valid; those of another version are not known here")
    if not (await patient.ask(patient.store.may_migrate())).may_create:
        server = await patient.ask(patient.store.server())
        return warning(
            f"{len(there)}, all valid; {server.role} may not make the schema to compare them with",
            f'ask as a role that may, or grant create on database "{server.database}" to "{server.role}"',
        )
    wanted = await _wanted(patient)
    lacking = [index for index in wanted if index.name not in there]
    if lacking:
        return failure(f"missing: {', '.join(index.name for index in lacking)}", _made_live(schema, lacking[0], None))
    changed = [index for index in wanted if not _are_alike(index, there[index.name])]
    if changed:
        mend = _made_live(schema, changed[0], there[changed[0].name])
        return failure(f"not as migrations make them: {', '.join(index.name for index in changed)}", mend)
    building = ", ".join(index.name for index in there.values() if not index.is_valid)
    return ok(f"all {len(wanted)} are there, and " + (f"somebody is building {building}" if building else "valid"))


def _are_alike(one: Index, other: Index) -> bool:
    return (one.definition, one.constraint) == (other.definition, other.constraint)


def _made_live(schema: str, index: Index, old: Index | None) -> str:
    """While workers go on, and so that the new one is in force before the old one goes."""
    name, new, table = index.name, f"{index.name}_new", f'"{schema}"."{index.table}"'
    steps = [index.definition.replace(f" INDEX {name} ", f" INDEX CONCURRENTLY {new} ", 1)]
    if index.is_identity:
        steps.append(f"alter table {table} replica identity using index {new}")
    if old and not old.constraint:
        steps.append(f'drop index concurrently "{schema}"."{name}"')
    changes = [f"drop constraint {name}"] if old and old.constraint else []
    if index.constraint:
        kind, _, _ = index.constraint.partition(" (")
        changes.append(f"add constraint {name} {kind} using index {new}")
    if changes:
        steps.append(f"alter table {table} {', '.join(changes)}")
    if not index.constraint:
        steps.append(f'alter index "{schema}"."{new}" rename to {name}')
    return "; ".join(steps)


async def _wanted(patient: Patient) -> list[Index]:
    """What migrations make, asked of a server on which they have just run."""
    beside = f"pgwerk_doctor_{secrets.token_hex(4)}"
    return await migrate.rehearse(patient.database, beside, patient.store.indexes(beside))


async def plans(patient: Patient) -> Finding:
    """What workers say again and again is planned without reading a large table as a whole."""
    large = {table.name: table.bytes for table in await patient.ask(patient.store.tables()) if table.bytes >= LARGE}
    read: dict[str, str] = {}
    calls = list(_hot(patient.database.schema))
    for call in calls:
        plan = await patient.ask(plan_of(call))
        read |= {table: call.statement.name for table in _read_whole(plan) if table in large}
    if read:
        words = ", ".join(f"{name} reads all {large[table] >> 20} MB of {table}" for table, name in read.items())
        return failure(words, "see indexes above; then VACUUM (ANALYZE) the tables")
    return ok(f"the {len(calls)} statements that workers repeat find everything by an index")


def _hot(schema: str) -> Iterator[Call[Any]]:
    """What workers say again and again, on jobs that are not there."""
    exchange, maintenance = ExchangeStore(schema), MaintenanceStore(schema)
    lanes = [Range("default", 0, -(2**62), 2**63 - 1)]
    yield exchange.claim(0, 1, 10, lanes, is_followed=True)
    yield exchange.claim_grouped(0, 1, 10, lanes, is_followed=True)
    yield exchange.look([Gap("default", -(2**15), 2**15 - 1)])
    yield exchange.outlook(0.0, ["default"])
    yield from EndingStore(schema).end([Outcome(1, 0, 1, "complete", result=b"1", has_sequel=False)])
    yield from EndingStore(schema).end([Outcome(1, 0, 1, "complete", result=b"1")])
    yield from (maintenance.promote(0.0), maintenance.expired(), maintenance.outdated())


def _read_whole(plan: dict[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from _read_whole(part)
