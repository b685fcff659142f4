"""Which functions can be jobs, under which path they are recorded, and what they are called with."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import InvalidOption, InvalidType
from pgwerk.errors import WerkError
from pgwerk.handlers import Handler, find, handler_of
from tests.unit import callables

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = "tests.unit.callables"

PATHS = [
    (callables.asynchronous, "asynchronous"),
    (callables.synchronous, "synchronous"),
    (callables.decorated, "decorated"),
    (callables.Jobs, "Jobs"),
    (callables.Jobs.static, "Jobs.static"),
    (callables.instance.static, "Jobs.static"),
    (callables.Jobs.of_class, "Jobs.of_class"),
    (callables.instance.of_class, "Jobs.of_class"),
    (callables.Jobs.Inner.static, "Jobs.Inner.static"),
    (callables.MoreJobs.static, "Jobs.static"),
]


def _handler(function: Callable[..., Any]) -> Handler:
    handler = handler_of(function)
    assert isinstance(handler, Handler)
    return handler


@pytest.mark.parametrize(("function", "name"), PATHS, ids=[name for _, name in PATHS])
def test_a_function_is_recorded_by_its_path_and_found_under_it(function: Callable[..., Any], name: str) -> None:
    path = _handler(function).path
    assert path == f"{HERE}.{name}"
    assert find(path).function == function


def test_an_inherited_class_method_stays_the_childs() -> None:
    try:
        path = _handler(callables.MoreJobs.of_class).path
    except InvalidOption as error:
        assert "MoreJobs" in str(error) or "of_class" in str(error)  # noqa: PT017
    else:
        assert find(path).function(1) == callables.MoreJobs.of_class(1)


def test_a_function_whose_path_leads_to_another_one_is_not_silently_replaced() -> None:
    """A decorator that copies the name: `renamed` would run `synchronous`."""
    with pytest.raises(InvalidOption, match="synchronous"):
        handler_of(callables.renamed)


def test_a_path_is_taken_as_it_is() -> None:
    assert handler_of("not.imported.here") == "not.imported.here"


@pytest.mark.parametrize(
    ("function", "name"), [(len, "builtins.len"), (print, "builtins.print"), (dict, "builtins.dict")]
)
def test_builtins_can_be_jobs(function: Callable[..., Any], name: str) -> None:
    assert _handler(function).path == name


REFUSED = {
    "a lambda": (
        callables.nameless,
        InvalidOption,
        "a lambda cannot be found by a worker, got <lambda>; make it a module-level function",
    ),
    "a local function": (
        callables.make_local(),
        InvalidOption,
        "a local function cannot be found by a worker, got make_local.<locals>.local; make it a module-level function",
    ),
    "a method": (
        callables.instance.method,
        InvalidOption,
        "a method needs its object, which a worker does not have, got Jobs.method; use a function",
    ),
    "a partial": (
        callables.partial,
        InvalidType,
        "func must be a module-level function, a class or a static method, or its dotted path, got functools.partial(",
    ),
    "an instance": (callables.instance, InvalidType, "func must be a module-level function"),
    "a number": (17, InvalidType, "or its dotted path, got 17"),
    "nothing": (None, InvalidType, "or its dotted path, got None"),
    "bytes": (b"a.b", InvalidType, "or its dotted path, got b'a.b'"),
    "a list": (["a.b"], InvalidType, "func must be a function or its dotted path, got ['a.b']"),
    "a coroutine's name only": (
        "greet",
        InvalidOption,
        "func must be a dotted path like package.module.function, got 'greet'",
    ),
    "an empty path": ("", InvalidOption, "func is empty; give a function or its dotted path"),
    "a gap in the path": ("a..b", InvalidOption, "got 'a..b'"),
    "a path with a colon": ("a.b:c", InvalidOption, "got 'a.b:c'"),
    "a path with an end": ("a.b ", InvalidOption, "got 'a.b '"),
    "a path with a NUL": ("a.b\0", InvalidOption, r"got 'a.b\x00'"),
    "a path of dots": (".", InvalidOption, "got '.'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_no_job_is_refused(name: str) -> None:
    function, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        handler_of(function)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert isinstance(caught.value, WerkError)


def test_a_function_that_is_gone_from_its_module_is_refused() -> None:
    function = FunctionType(callables.synchronous.__code__, {}, "gone")
    function.__module__, function.__qualname__ = HERE, "gone"
    with pytest.raises(
        InvalidOption, match=r"tests.unit.callables.gone cannot be imported by a worker \(.*has no gone"
    ):
        handler_of(function)


def test_a_coroutine_that_was_called_already_is_refused() -> None:
    coroutine = callables.asynchronous(1)
    with pytest.raises(InvalidType, match="got <coroutine object"):
        handler_of(coroutine)  # type: ignore[arg-type]
    coroutine.close()


# Asynchronous or not.


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (callables.asynchronous, True),
        (callables.synchronous, False),
        (callables.awaited, True),
        (callables.decorated_asynchronous, False),  # the wrapper is plain, whatever it wraps
        (callables.decorated, False),
        (callables.Jobs.of_class_with_context, True),
        (callables.Jobs, False),
    ],
)
def test_coroutines_are_told_from_plain_functions(function: Callable[..., Any], is_async: bool) -> None:
    assert _handler(function).is_async is is_async


# Arguments.

FITTING = [
    (callables.asynchronous, (1,), {}),
    (callables.asynchronous, (), {"a": 1, "b": 2}),
    (callables.synchronous, (1,), {"b": 1}),
    (callables.anything, (1, 2), {"x": 1}),
    (callables.by_name, (1,), {}),
    (callables.by_annotation, (), {"a": 1}),
    (callables.Jobs.of_class, (1,), {}),
    (callables.Jobs.of_class_with_context, (1,), {}),
    (callables.decorated, (), {"a": 1}),
    (callables.Jobs, (), {}),
    (dict, (1, 2, 3), {}),  # nobody knows: it has no signature
]
NOT_FITTING = [
    (callables.asynchronous, (), {}, "missing a required argument: 'a'"),
    (callables.asynchronous, (1, 2, 3), {}, "too many positional arguments"),
    (callables.asynchronous, (1,), {"c": 1}, "got an unexpected keyword argument 'c'"),
    (callables.asynchronous, (1,), {"a": 1}, "multiple values for argument 'a'"),
    (callables.synchronous, (1, 2), {}, "too many positional arguments"),
    (callables.by_name, (), {}, "missing a required argument: 'a'"),
    (callables.by_name, (1, 2), {}, "too many positional arguments"),
    (callables.by_annotation, (1,), {"c": None}, "multiple values for argument 'c'"),
    (callables.Jobs.method, (1,), {}, "missing a required argument: 'a'"),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), FITTING)
def test_arguments_that_fit(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _handler(function).check(args, kwargs)


@pytest.mark.parametrize(("function", "args", "kwargs", "words"), NOT_FITTING)
def test_arguments_that_do_not_fit_are_refused_as_the_call_would(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    handler = _handler(function)
    with pytest.raises(InvalidType) as caught:
        handler.check(args, kwargs)
    assert str(caught.value).startswith(f"the arguments do not fit {handler.path}{handler.signature}: ")
    assert words in str(caught.value)
    assert isinstance(caught.value, TypeError)
