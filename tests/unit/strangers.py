"""Somebody else's names, like ours; without `from __future__ import annotations`, so that annotations are objects."""

import typing

import pgwerk


class Context:
    """Not ours."""


def foreign(c: Context) -> None: ...


def foreign_optional(c: typing.Optional[Context]) -> None: ...  # noqa: UP045


def foreign_as_text(c: "Context") -> None: ...


def ours(c: pgwerk.Context) -> None: ...


def ours_optional(c: typing.Optional["pgwerk.Context"]) -> None: ...


def ours_as_text(c: "pgwerk.Context | None") -> None: ...


def ours_unknown_here(c: "Optional[Ours]") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def ours_for_type_checkers(c: "pgwerk.Context") -> None: ...
