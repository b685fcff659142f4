"""What the tests of features share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgwerk import events
from tests.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def heard() -> Iterator[list[events.Event]]:
    found: list[events.Event] = []
    unsubscribe = events.subscribe(found.append)
    yield found
    unsubscribe()


@pytest.fixture
def shell(migrated_dsn: str, tmp_path: Path) -> Shell:
    return Shell(tmp_path, migrated_dsn)
