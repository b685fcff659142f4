"""What a program wants to be called when something happens. One that raises is logged, and changes nothing."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from pgwerk import events
from pgwerk.errors import InvalidType, brief, one_line
from pgwerk.signals import Leaving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Hook = Callable[..., Any]


def checked(hook: Hook) -> Hook:
    if not callable(hook):
        raise InvalidType(f"a hook is a function or a coroutine function, got {brief(hook)}")
    return hook


async def call_all(hooks: Iterable[Hook], about: str, *args: object) -> None:
    """Plain functions and coroutines; `about` says in the log what they were called for."""
    for hook in hooks:
        try:
            await answer_of(hook, *args)
        except (asyncio.CancelledError, Leaving):  # are meant for whoever calls them
            raise
        except BaseException as error:  # noqa: BLE001 - a hook is not the work itself, also when it wants to leave
            name = getattr(hook, "__qualname__", None) or brief(hook)
            events.emit(events.HookFailed(name, about, one_line(error)))


async def answer_of(hook: Hook, *args: object) -> Any:
    answer = hook(*args)
    return await answer if inspect.isawaitable(answer) else answer
