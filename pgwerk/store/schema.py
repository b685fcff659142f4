from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgwerk.store.catalogue import Catalogue, nothing

if TYPE_CHECKING:
    from pgwerk.sql import Migration
    from pgwerk.wire import Call


class Found(NamedTuple):
    schema: bool
    migrated: bool


class SchemaStore(Catalogue):
    def found(self) -> Call[Found]:
        return self._call("schema_found", lambda rows: Found(**rows[0]), quoted_schema=f'"{self.schema}"')

    def version(self) -> Call[tuple[int, int]]:
        return self._call("schema_version", lambda rows: (rows[0]["version"] or 0, rows[0]["serves"] or 0))

    def read_committed(self) -> Call[None]:
        return self._call("read_committed", nothing)

    def take_time(self) -> Call[None]:
        return self._call("take_time", nothing)

    def lock(self) -> Call[None]:
        return self._call("migration_lock", nothing)

    def create(self) -> Call[None]:
        return self._call("create_schema", nothing)

    def drop(self) -> Call[None]:
        return self._call("drop_schema", nothing)

    def record(self, migration: Migration, serves: int) -> Call[None]:
        values = {"version": migration.version, "migration": migration.name, "serves": serves}
        return self._call("record_migration", nothing, **values)
