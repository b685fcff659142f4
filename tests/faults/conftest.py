from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import acts
from tests.faults.history.log import VARIABLE, Log
from tests.postgres import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres import Postgres


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that tests may strike."""
    with running(tmp_path_factory.mktemp("struck") / "data") as server:
        yield server


@pytest.fixture
def log(own_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Of the history of this test; its handlers note in it too, in whatever process."""
    monkeypatch.setenv(VARIABLE, own_dsn)
    Log.made(own_dsn)
    acts.log.cache_clear()
    with acts.log() as notes:
        yield notes
