from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import acts
from tests.faults.history.log import VARIABLE, Log

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log(own_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Of the history of this test; its handlers note in it too, in whatever process."""
    monkeypatch.setenv(VARIABLE, own_dsn)
    Log.made(own_dsn)
    acts.log.cache_clear()
    with acts.log() as notes:
        yield notes
