"""Which functions a row may name, where the app says so: nothing else is run, or even imported."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import Callback, EnqueueParams, HandlerNotAllowed, InvalidOption, JSONSerializer
from pgwerk.allow import allows
from pgwerk.handlers import find, handler_of
from pgwerk.specifying import specify, specify_all
from tests import handlers
from tests.unit import callables

if TYPE_CHECKING:
    from pathlib import Path

OURS = ("tests.handlers.*", "tests.unit.callables.*")
WAYS = [
    # pattern, path, is allowed
    ("shop.charge", "shop.charge", True),
    ("shop.charge", "shop.charge.more", False),
    ("shop.charge", "shop.charges", False),
    ("shop.*", "shop.charge", True),
    ("shop.*", "shop.deep.down.charge", True),
    ("shop.*", "shop", False),
    ("shop.*", "shopping.charge", False),
    ("shop.*", "other.shop.charge", False),
]
AROUND = [  # what an allowed module leads to without having written it
    ("tests.unit.callables.functools.reduce", "_functools.reduce"),
    ("tests.handlers.Path.cwd", "pathlib.Path.cwd"),
    ("tests.handlers.asyncio.subprocess.create_subprocess_shell", "asyncio.subprocess.create_subprocess_shell"),
    ("tests.handlers.noop.__globals__.clear", "None.dict.clear"),
    ("tests.handlers.noop.__class__", "builtins.function"),
    ("tests.unit.callables.partial", "functools.None"),
]


@pytest.mark.parametrize(("pattern", "path", "is_allowed"), WAYS)
def test_a_pattern_is_a_path_or_everything_below_one(pattern: str, path: str, is_allowed: bool) -> None:
    assert allows((pattern,), path) == is_allowed
    assert allows(("elsewhere.*", pattern), path) == is_allowed


@pytest.mark.parametrize(
    "path", ["tests.handlers.echo", "tests.unit.callables.Jobs.static", f"{callables.__name__}.Jobs"]
)
def test_what_is_allowed_is_found(path: str) -> None:
    assert find(path, OURS).path == path


def test_a_class_method_is_its_childs() -> None:
    assert find("tests.unit.callables.Jobs.of_class", ("tests.unit.callables.Jobs.of_class",)).path


def test_nothing_is_imported_for_what_is_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "forbidden.py").write_text("raise SystemExit('it was imported')\n")
    with pytest.raises(HandlerNotAllowed) as caught:
        find("forbidden.run", OURS)
    assert str(caught.value) == (
        "forbidden.run is not allowed here, only tests.handlers.*, tests.unit.callables.*; "
        "the setting allow says what may be a job"
    )
    assert "forbidden" not in sys.modules


@pytest.mark.parametrize(("path", "home"), AROUND)
def test_an_allowed_module_is_no_way_to_others(path: str, home: str) -> None:
    with pytest.raises(HandlerNotAllowed, match=f"^{path} leads to {home} is not allowed here"):
        find(path, OURS)


def test_what_somebody_else_has_found_is_not_allowed_for_that() -> None:
    assert find("os.getpid").function is os.getpid
    with pytest.raises(HandlerNotAllowed):
        find("os.getpid", OURS)


@pytest.mark.parametrize("function", ["os.system", os.system])
@pytest.mark.parametrize("option", ["func", "on_success", "on_failure", "on_stopped"])
def test_enqueue_refuses_what_its_workers_would(option: str, function: Any) -> None:
    if option != "func" and callable(function):
        function = Callback(print)  # takes a context, and anything else
    params = EnqueueParams(**{"func": handlers.noop, option: function})
    with pytest.raises(InvalidOption, match=f"^_?{option} (posix.system|os.system|builtins.print) is not allowed here"):
        specify(params, JSONSerializer(), OURS)


def test_a_bulk_refuses_it_as_a_whole() -> None:
    with pytest.raises(InvalidOption, match=r"^func os\.system is not allowed"):
        specify_all([EnqueueParams(handlers.noop), EnqueueParams("os.system")], JSONSerializer(), OURS)


def test_a_path_is_not_imported_to_see_whether_it_is_allowed() -> None:
    assert handler_of("tests.handlers.not_there", allowed=OURS) == "tests.handlers.not_there"
