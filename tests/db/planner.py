"""What the planner makes of a statement, and how many pages it then touches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from pgwerk.sql import statements
from pgwerk.values import as_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from pgwerk.wire import Call

BIG = {"ready", "blocked", "scheduled", "waiting", "dependency", "active", "finished", "job", "attempt"}
_WALKS = {"Seq Scan", "Bitmap Heap Scan", "Bitmap Index Scan", "Sample Scan", "Merge Join"}
MOST_SORTED = 500  # rows: a batch
_SORTS = {"Sort", "Incremental Sort"}


@dataclass
class Explained:
    """The plan of one execution, which was rolled back."""

    plan: dict[str, Any]

    def nodes(self) -> Iterator[dict[str, Any]]:
        pending = [self.plan]
        while pending:
            node = pending.pop()
            yield node
            pending += node.get("Plans", [])

    def walks(self) -> list[str]:
        """What reads a big table other than by its index, or puts in order what an index should have."""
        return [
            f"{node['Node Type']} on {node.get('Relation Name') or node.get('Sort Key')}"
            for node in self.nodes()
            if (node["Node Type"] in _WALKS and node.get("Relation Name", "") in {"", *BIG})
            or (node["Node Type"] in _SORTS and node["Actual Rows"] > MOST_SORTED)
        ]

    @property
    def pages(self) -> int:
        """At most: a part that the main plan reads from counts once more."""
        parts = [self.plan, *(node for node in self.nodes() if node.get("Subplan Name", "").startswith("CTE"))]
        return sum(part["Shared Hit Blocks"] + part["Shared Read Blocks"] for part in parts)


def pin(connection: Connection[Any], schema: str) -> None:
    statement = statements(schema)["pin"]
    values = [sql.Literal(value) for value in statement.bind({"is_local": False, "whole_tables": "off"})]
    connection.execute(sql.SQL("prepare pin as {}").format(sql.SQL(statement.text)))
    connection.execute(sql.SQL("execute pin({})").format(sql.SQL(", ").join(values)))


def prepare(connection: Connection[Any], schema: str, name: str) -> None:
    text = f'prepare "{name}" as {statements(schema)[name].text}'
    connection.execute(text.encode())


def explain(connection: Connection[Any], call: Call[Any]) -> Explained:
    values = [sql.Literal(as_text(value)) for value in call.values]
    execute = sql.SQL("execute {} ({})").format(sql.Identifier(call.statement.name), sql.SQL(", ").join(values))
    text = sql.SQL("explain (analyze, buffers, costs off, timing off, format json) {}").format(execute)
    for _ in range(2):  # the first time a function of ours runs in a session, it reads the catalogue too
        with connection.transaction(force_rollback=True):
            rows = connection.execute(text).fetchall()
    return Explained(rows[0][0][0]["Plan"])
