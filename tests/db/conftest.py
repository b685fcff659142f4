"""What the tests of the engine's statements share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.db.race import Race, misplaced
from tests.db.session import Party

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgwerk import Werk


@pytest.fixture(params=[True, False], ids=["plain", "careful"])
async def race(app: Werk, dsn: str, schema: str, query: Any, request: pytest.FixtureRequest) -> AsyncIterator[Race]:
    """Two sessions on one schema. Whatever happened between them, each job is in exactly one place afterwards."""
    async with Party.on(dsn, schema) as first, Party.on(dsn, schema) as second:
        yield Race(app, first, second, is_plain=request.param)
    assert misplaced(query) == []
