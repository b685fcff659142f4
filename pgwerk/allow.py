"""Which functions may be jobs, where an app says so: a row can name any function, and to name it is to run it."""

from __future__ import annotations

from typing import TypeAlias

from pgwerk.errors import InvalidOption, InvalidType, brief

Allowed: TypeAlias = tuple[str, ...] | None
"""Paths of functions, and `package.*` for everything below a module or class; None: whatever can be imported."""

EVERYTHING_BELOW = ".*"


def checked(given: object) -> Allowed:
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(pattern, str) for pattern in given):
        raise InvalidType(f"allow must be a list of paths like shop.charge or shop.*, got {brief(given)}")
    if not given:
        raise InvalidOption("allow is empty and no job could ever run; leave it out to allow every function")
    for pattern in given:
        if not all(part.isidentifier() for part in pattern.removesuffix(EVERYTHING_BELOW).split(".")):
            raise InvalidOption(f"allow holds paths like shop.charge or shop.*, got {brief(pattern)}")
    return tuple(given)


def allows(patterns: tuple[str, ...], path: str) -> bool:
    return any(
        path.startswith(pattern.removesuffix("*")) if pattern.endswith(EVERYTHING_BELOW) else path == pattern
        for pattern in patterns
    )
