"""What a program that only asks or enqueues need not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pgwerk


@pytest.mark.parametrize("module", ["pgwerk", "pgwerk.cli.queues", "pgwerk.cli.jobs", "pgwerk.cli.schedules"])
def test_a_question_imports_no_worker(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in sys.modules if name.startswith('pgwerk.worker')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize("name", pgwerk.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(pgwerk, name).__module__.startswith("pgwerk.")


def test_another_name_is_missing() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Job_'"):
        _ = pgwerk.Job_  # type: ignore[attr-defined]
