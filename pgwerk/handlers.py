"""Handlers: the dotted path under which a function is recorded, and the function behind a path."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import typing
from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType, UnionType
from typing import TYPE_CHECKING, Any

from pgwerk import allow
from pgwerk.context import Context
from pgwerk.errors import (
    FunctionNotAllowed,
    HandlerNotAllowed,
    HandlerNotFound,
    InvalidOption,
    InvalidType,
    WerkError,
    brief,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgwerk.allow import Allowed

_OPTIONAL = (typing.Union, UnionType, typing.Annotated)


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """A function with what is worth finding out only once."""

    path: str
    function: Callable[..., Any]
    takes_context: bool
    is_async: bool
    """It is a coroutine function itself, whatever it wraps. What is none may give a coroutine all the same."""

    signature: inspect.Signature | None  # None: a builtin that has none

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuses arguments that do not fit, as the call itself would."""
        if misfit := _misfit(self, len(args), *kwargs):
            raise InvalidType(f"the arguments do not fit {self.path}{self.signature}: {misfit}")

    def check_callback(self, option: str) -> None:
        """Refuses what cannot be called with a context alone."""
        try:
            if self.signature is not None:
                self.signature.bind(None)
        except TypeError as error:
            raise InvalidType(
                f"{option} is called with ctx alone, which {self.path}{self.signature} does not take"
            ) from error


@lru_cache(maxsize=1024)
def _misfit(handler: Handler, positional: int, *names: str) -> str:
    """Why arguments of this shape do not fit; their values do not matter, so it is asked once."""
    if handler.signature is None:
        return ""
    try:
        handler.signature.bind(*[None] * (positional + handler.takes_context), **dict.fromkeys(names))
    except TypeError as error:
        return str(error)
    return ""


def handler_of(function: Callable[..., Any] | str, option: str = "func", allowed: Allowed = None) -> Handler | str:
    """What a caller means by a function: the handler behind a callable, a path as it is."""
    handler = _handler_of(function, option)
    path = handler.path if isinstance(handler, Handler) else handler
    if allowed is not None and not allow.allows(allowed, path):
        raise FunctionNotAllowed(f"{option} {_outside(path, allowed)}")
    return handler


def _handler_of(function: Callable[..., Any] | str, option: str) -> Handler | str:
    if isinstance(function, str):
        return _checked_path(function, option)
    try:
        return _of_callable(function, option)
    except WerkError:
        raise
    except Exception as error:  # it cannot be hashed, or whatever else its class does
        raise InvalidType(f"{option} must be a function or its dotted path, got {brief(function)}") from error


@cache
def find(path: str, allowed: Allowed = None) -> Handler:
    """The handler behind a recorded path, imported if need be; `HandlerNotFound` says what is in the way.

    Nothing is imported for a path that is not allowed. An allowed module has names of other modules' functions too:
    where the function was written must be allowed as well.
    """
    if allowed is not None and not allow.allows(allowed, path):
        raise HandlerNotAllowed(_outside(path, allowed))
    function = _attribute(path)
    if allowed is not None and not allow.allows(allowed, home := _home(function)):
        raise HandlerNotAllowed(f"{path} leads to {_outside(home, allowed)}")
    return _describe(path, function)


def _outside(path: str, allowed: tuple[str, ...]) -> str:
    return f"{path} is not allowed here, only {', '.join(allowed)}; the setting allow says what may be a job"


def _home(function: Callable[..., Any]) -> str:
    """Where it was written, whatever led to it; of a class method, where its class was."""
    owner, name = getattr(function, "__self__", None), ""
    if inspect.isclass(owner):
        function, name = owner, f".{getattr(function, '__name__', None)}"
    return f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)}{name}"


@cache
def _of_callable(function: Callable[..., Any], option: str) -> Handler:
    path = _path(function, option)
    try:
        found = _attribute(path)
    except HandlerNotFound as error:
        raise InvalidOption(f"{path} cannot be imported by a worker ({error}); make it a module's own name") from error
    if found != function and inspect.unwrap(function) is found:
        raise InvalidOption(f"{path} leads to the function that this one wraps; decorate it under its own name")
    return _describe(path, found)


def _path(function: object, option: str) -> str:
    name = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    if not callable(function) or not isinstance(name, str) or not isinstance(module, str):
        raise InvalidType(
            f"{option} must be a module-level function, a class or a static method, or its dotted path, "
            f"got {brief(function)}"
        )
    if "<" in name:
        kind = "a lambda" if "<lambda>" in name else "a local function"
        raise InvalidOption(f"{kind} cannot be found by a worker, got {name}; make it a module-level function")
    owner = getattr(function, "__self__", None)  # of a method: its object; of a class method: the class
    if owner is not None and not inspect.isclass(owner) and not inspect.ismodule(owner):
        raise InvalidOption(f"a method needs its object, which a worker does not have, got {name}; use a function")
    if inspect.isclass(owner):  # a class method: an inherited one is its child's
        module, name = owner.__module__, f"{owner.__qualname__}.{name.rpartition('.')[2]}"
    return f"{_module_name(module)}.{name}"


def _module_name(module: str) -> str:
    """`python -m pkg.mod` runs a module under another name: it is recorded under its own."""
    spec = getattr(sys.modules["__main__"], "__spec__", None) if module == "__main__" else None
    return spec.name.removesuffix(".__main__") + ".__main__" * spec.name.endswith(".__main__") if spec else module


def _checked_path(path: str, option: str) -> str:
    if not path:
        raise InvalidOption(f"{option} is empty; give a function or its dotted path")
    if "." not in path or not all(part.isidentifier() for part in path.split(".")):
        raise InvalidOption(f"{option} must be a dotted path like package.module.function, got {brief(path)}")
    return path


def _attribute(path: str) -> Callable[..., Any]:
    module, names = _import(path)
    found: Any = module
    for name in names:
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise HandlerNotFound(_missing(path, module, name)) from error
    if not callable(found):
        raise HandlerNotFound(f"{path} is not callable, it is {brief(found)}")
    return typing.cast("Callable[..., Any]", found)


def _import(path: str) -> tuple[ModuleType, list[str]]:
    """The longest prefix of the path that is a module, and the names left."""
    parts = path.split(".")
    main = _module_name("__main__").split(".")
    if parts[: len(main)] == main:
        return sys.modules["__main__"], parts[len(main) :]
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            return importlib.import_module(name), parts[end:]
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise HandlerNotFound(f"importing {name} for {path} failed: {error}") from error
        except Exception as error:
            raise HandlerNotFound(f"importing {name} for {path} failed: {type(error).__name__}: {error}") from error
    raise HandlerNotFound(f"there is no module {parts[0]} for {path} here; is the worker started in the right folder?")


def _missing(path: str, module: ModuleType, name: str) -> str:
    if module.__name__ == "__main__":
        return (
            f"{path} lives in a script that another process ran; put the function into a module that workers can "
            f"import, or start the script as one (python -m package.module)"
        )
    return f"{module.__name__} has no {name}, wanted for {path}; was it renamed after the job was enqueued?"


@cache
def _describe(path: str, function: Callable[..., Any]) -> Handler:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some builtins
        signature = None
    return Handler(
        path, function, _takes_context(function, signature), inspect.iscoroutinefunction(function), signature
    )


def _takes_context(function: Callable[..., Any], signature: inspect.Signature | None) -> bool:
    first = next(iter(signature.parameters.values()), None) if signature else None
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return False
    return first.name == "ctx" or _is_context(function, first.annotation)


def _is_context(function: Callable[..., Any], annotation: Any) -> bool:
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        annotation = _evaluated(function, annotation)
    if isinstance(annotation, str):
        names = re.sub(r"(typing\.)?Optional\[|\]", "", annotation).split("|")
        return any(name.strip() in ("Context", "pgwerk.Context") for name in names)
    options = typing.get_args(annotation) if typing.get_origin(annotation) in _OPTIONAL else ()
    return annotation is Context or any(_is_context(function, option) for option in options)


def _evaluated(function: Callable[..., Any], annotation: str) -> Any:
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return eval(annotation, dict(scope))  # noqa: S307 - the program's own source, as typing.get_type_hints does
    except Exception:  # noqa: BLE001 - a name that is imported for type checkers alone
        return annotation
