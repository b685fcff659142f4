"""The function behind a recorded path: imported, or the way to it explained."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pgwerk import HandlerNotFound
from pgwerk.handlers import find
from tests.unit import callables

if TYPE_CHECKING:
    from pathlib import Path

HERE = "tests.unit.callables"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "nowhere_at_all.job",
            "there is no module nowhere_at_all for nowhere_at_all.job here; is the worker started in the right folder?",
        ),
        (
            "tests.nowhere.job",
            "tests has no nowhere, wanted for tests.nowhere.job; was it renamed after the job was enqueued?",
        ),
        (f"{HERE}.gone", f"{HERE} has no gone, wanted for {HERE}.gone; was it renamed after the job was enqueued?"),
        (
            f"{HERE}.Jobs.gone",
            f"{HERE} has no gone, wanted for {HERE}.Jobs.gone; was it renamed after the job was enqueued?",
        ),
        (f"{HERE}.not_callable", f"{HERE}.not_callable is not callable, it is 17"),
    ],
)
def test_a_path_that_leads_nowhere_says_why(path: str, words: str) -> None:
    with pytest.raises(HandlerNotFound) as caught:
        find(path)
    assert str(caught.value) == words
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import not_installed_anywhere", "failed: No module named 'not_installed_anywhere'"),
        ("1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("def (", "failed: SyntaxError: "),
    ],
)
def test_a_module_that_cannot_be_imported_says_what_is_in_the_way(
    source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{source.encode().hex()}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(HandlerNotFound) as caught:
        find(f"{name}.job")
    assert str(caught.value).startswith(f"importing {name} for {name}.job {words}")


def test_what_could_not_be_found_is_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker must not remember for ever that a module was missing once."""
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(HandlerNotFound):
        find("comes_later.job")
    (tmp_path / "comes_later.py").write_text("def job(): ...")
    importlib.invalidate_caches()
    assert find("comes_later.job").path == "comes_later.job"


# The module that is run.

SCRIPT = """
from pgwerk import HandlerNotFound
from pgwerk.handlers import find, handler_of

def job(): return "ran"

if __name__ == "__main__":
    handler = handler_of(job)
    print(handler.path, find(handler.path).function())
"""


def _run(folder: Path, *arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_script_finds_its_own_functions(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    assert _run(tmp_path, "script.py") == ["__main__.job", "ran"]


def test_a_module_run_with_m_is_recorded_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "jobs.py").write_text(SCRIPT)
    (tmp_path / "package" / "__main__.py").write_text(SCRIPT)
    assert _run(tmp_path, "-m", "package.jobs") == ["package.jobs.job", "ran"]
    assert _run(tmp_path, "-m", "package") == ["package.__main__.job", "ran"]


def test_what_was_recorded_with_m_is_found_by_another_process(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "jobs.py").write_text(SCRIPT)
    other = "from pgwerk.handlers import find; print(find('package.jobs.job').function())"
    assert _run(tmp_path, "-c", other) == ["ran"]


def test_a_class_of_a_module_run_with_m_is_found_in_it(tmp_path: Path) -> None:
    """And not in a second copy of the module, imported under its own name."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "jobs.py").write_text(
        "from pgwerk.handlers import find, handler_of\n"
        "print('imported')\n"
        "class Jobs:\n"
        "    @staticmethod\n"
        "    def run(): return 'ran'\n"
        "if __name__ == '__main__':\n"
        "    handler = handler_of(Jobs.run)\n"
        "    print(handler.path, find(handler.path).function())\n"
    )
    assert _run(tmp_path, "-m", "package.jobs") == ["imported", "package.jobs.Jobs.run", "ran"]


def test_a_function_of_somebody_elses_script_says_how_to_move_it() -> None:
    with pytest.raises(HandlerNotFound) as caught:
        find("__main__.job_of_a_script")
    assert str(caught.value) == (
        "__main__.job_of_a_script lives in a script that another process ran; put the function into a module that "
        "workers can import, or start the script as one (python -m package.module)"
    )


def test_a_partial_of_a_module_is_no_path() -> None:
    assert isinstance(callables.partial, functools.partial)
    assert find(f"{HERE}.partial").function is callables.partial
