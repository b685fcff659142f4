"""tests/schema.sql shows what a change of the migrations does to the schema."""

from tests.db.dump import FILE, current


def test_the_dumped_schema_is_in_step_with_the_migrations(dsn: str) -> None:
    assert current(dsn) == FILE.read_text(), (
        "the schema has changed: run `python -m tests.db.dump` and look at the diff"
    )
