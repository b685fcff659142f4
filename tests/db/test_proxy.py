"""The proxy does to a connection what its names say."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from pgwerk.db import Database
from pgwerk.errors import ServerUnreachable
from pgwerk.store.schema import SchemaStore
from pgwerk.wire import Disconnected
from tests.proxy import Proxy

if TYPE_CHECKING:
    from pgwerk import Werk


async def test_what_is_cut_refused_or_swallowed_is_noticed_as_such(app: Werk, dsn: str) -> None:
    async with Proxy(dsn) as proxy:
        database, ask = Database(proxy.dsn, app.config.schema), SchemaStore(app.config.schema).version()
        with contextlib.closing(await database.keep()) as session:
            proxy.black_hole()
            asked = asyncio.create_task(session.run(ask))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asked), 0.05)
            proxy.heal()
            assert (await asked)[0] >= 1
            proxy.cut()
            with pytest.raises(Disconnected):
                await session.run(ask)
        await proxy.refuse()
        with pytest.raises(ServerUnreachable):
            await database.keep()
        await proxy.accept()
        with contextlib.closing(await database.keep()) as session:
            assert (await session.run(ask))[0] >= 1
