"""What a user may try to enqueue: good and bad."""

from __future__ import annotations

import functools
import typing
from typing import TYPE_CHECKING, Any, Optional

import pgwerk
from pgwerk import Context
from tests.unit import strangers

if TYPE_CHECKING:
    from collections.abc import Callable


async def asynchronous(a: int, b: int = 2) -> int:
    return a + b


def synchronous(a: int, *, b: int) -> int:
    return a + b


def anything(*args: Any, **kwargs: Any) -> None: ...


def by_name(ctx, a): ...  # type: ignore[no-untyped-def]


def by_annotation(c: Context, a: int) -> None: ...


def by_dotted_annotation(c: pgwerk.Context, a: int) -> None: ...


def by_union(c: Context | None, a: int) -> None: ...


def by_union_turned_round(c: None | Context, a: int) -> None: ...  # noqa: RUF036


def by_optional(c: Optional[Context], a: int) -> None: ...  # noqa: UP045


def by_typing_optional(c: typing.Optional[Context], a: int) -> None: ...  # noqa: UP045


def by_optional_of_a_text(c: Optional["Context"], a: int) -> None: ...  # noqa: UP037, UP045


def by_annotated(c: typing.Annotated[Context, "ours"], a: int) -> None: ...


def positional_only(ctx: Context, /, a: int) -> None: ...


def by_foreign_name(c: strangers.Context, a: int) -> None: ...


def second(a: int, ctx: Context) -> None: ...


def keyword_only(*, ctx: int = 0, a: int) -> None: ...


def many_contexts(items: list[Context], a: int) -> None: ...


def starred(*ctx: Any) -> None: ...


def wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@wrapping
def decorated(ctx: Context, a: int) -> int:
    return a


@wrapping
async def decorated_asynchronous(a: int) -> int:
    return a


def awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


@awaiting
async def awaited(a: int) -> int:
    return a


renamed = wrapping(synchronous)


class Jobs:
    def __init__(self, a: int = 0) -> None:
        self.a = a

    @staticmethod
    def static(a: int) -> str:
        return f"static {a}"

    @classmethod
    def of_class(cls, a: int) -> str:
        return f"{cls.__name__} {a}"

    @classmethod
    async def of_class_with_context(cls, ctx: Context, a: int) -> str:
        return f"{cls.__name__} {ctx} {a}"

    def method(self, a: int) -> int:
        return self.a + a

    def __call__(self) -> None: ...

    class Inner:
        @staticmethod
        def static() -> None: ...


class MoreJobs(Jobs):
    """Inherits its class method."""


nameless: Callable[[int], int] = lambda a: a  # noqa: E731
partial = functools.partial(synchronous, b=1)
instance = Jobs()
not_callable = 17


def make_local() -> Callable[[], None]:
    def local() -> None: ...

    return local
