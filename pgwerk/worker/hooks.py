from __future__ import annotations

from typing import TYPE_CHECKING

from pgwerk import checks
from pgwerk.hooks import call_all, checked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgwerk.context import Context
    from pgwerk.hooks import Hook


class Hooks:
    """Around the attempts of a worker."""

    def __init__(self, before: Iterable[Hook] | None, after: Iterable[Hook] | None) -> None:
        self.before, self.after = _listed(before), _listed(after)
        self.on_exception: list[Hook] = []

    def __bool__(self) -> bool:
        return bool(self.before or self.after or self.on_exception)

    async def starts(self, context: Context) -> None:
        await call_all(self.before, _about(context), context)

    async def raised(self, context: Context) -> None:
        await call_all(reversed(self.on_exception), _about(context), context.job, context.exception)

    async def ended(self, context: Context) -> None:
        await call_all(self.after, _about(context), context)


def _listed(hooks: Iterable[Hook] | None) -> list[Hook]:
    return [] if hooks is None else [checked(hook) for hook in checks.several("hooks", hooks)]


def _about(context: Context) -> str:
    return f"job {context.job.id}"
