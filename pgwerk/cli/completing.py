"""What the Tab key offers beyond click's own: names that only the database knows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from pgwerk import embedded
from pgwerk.cli.target import target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgwerk.app import Werk

PATIENCE = 2.0  # seconds that somebody at a prompt waits


class _Queue(click.ParamType[str]):
    """Any name will do; those of which workers take jobs are offered."""

    name = "text"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(self, ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            names = asyncio.run(asyncio.wait_for(_queues(ctx.params), PATIENCE))
        except Exception:  # noqa: BLE001 - at a prompt there is nobody to tell: without an answer nothing is offered
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


QUEUE = _Queue()


async def _queues(said: Mapping[str, Any]) -> list[str]:
    app: Werk = target(said.get("named"), said.get("dsn"), said.get("schema"))
    if embedded.is_embedded(app.config.dsn or ""):
        return []  # a key must not start a server
    app.config = app.config.changed(auto_migrate=False)
    async with app:
        return sorted({queue for worker in await app.list_workers() for queue in worker.queues})
