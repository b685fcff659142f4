"""Who is handed the context: by name or by annotation, in whatever form it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgwerk.handlers import Handler, find, handler_of
from tests.unit import callables, strangers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _takes_context(function: Callable[..., Any]) -> bool:
    handler = handler_of(function)
    assert isinstance(handler, Handler)
    return handler.takes_context


WITH_CONTEXT = [
    callables.by_name,
    callables.by_annotation,
    callables.by_dotted_annotation,
    callables.by_union,
    callables.by_union_turned_round,
    callables.by_optional,
    callables.by_typing_optional,
    callables.by_optional_of_a_text,
    callables.by_annotated,
    callables.positional_only,
    callables.decorated,
    callables.Jobs.of_class_with_context,
    strangers.ours,
    strangers.ours_optional,
    strangers.ours_as_text,
]
WITHOUT_CONTEXT = [
    callables.asynchronous,
    callables.anything,
    callables.by_foreign_name,
    callables.second,
    callables.keyword_only,
    callables.many_contexts,
    callables.starred,
    callables.Jobs,
    callables.Jobs.of_class,
    strangers.foreign,
    strangers.foreign_optional,
    strangers.foreign_as_text,
    strangers.ours_unknown_here,
    len,
]


@pytest.mark.parametrize("function", WITH_CONTEXT)
def test_who_gets_the_context(function: Callable[..., Any]) -> None:
    assert _takes_context(function)


@pytest.mark.parametrize("function", WITHOUT_CONTEXT)
def test_who_gets_no_context(function: Callable[..., Any]) -> None:
    assert not _takes_context(function)


@pytest.mark.parametrize(
    "annotation",
    ["Context", "Context | None", "None | Context", "Optional[Context]", "typing.Optional[Context]", "pgwerk.Context"],
)
def test_a_context_that_only_type_checkers_import_is_known_by_its_name(
    annotation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"handlers_{annotation.encode().hex()}"
    (tmp_path / f"{name}.py").write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    import pgwerk, typing\n"
        "    from typing import Optional\n"
        "    from pgwerk import Context\n"
        f"async def job(c: {annotation}, a: int) -> None: ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find(f"{name}.job").takes_context
