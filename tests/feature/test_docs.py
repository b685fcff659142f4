"""Every example of the documentation runs, and what is made from the code is in step with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import click
import pytest

from pgwerk.cli import commands
from tests.docs import CLI, DOCS, PAGES as MADE, WHICH_APP
from tests.postgres import rows
from tests.shell import every_command

if TYPE_CHECKING:
    from pathlib import Path

PAGES = ["quickstart", "enqueueing", "workers", "schedules"]
FILE = re.compile(r"```python file=(\S+)\n(.*?)```", re.DOTALL)
STEP = re.compile(r"```python\n(.*?)```", re.DOTALL)
QUERY = re.compile(r"```sql\n(.*?)```", re.DOTALL)


def script(page: str) -> str:
    """The steps of a page, one after the other in one program."""
    steps = STEP.findall(page)
    assert steps
    functions = [f"async def step{n}():\n{textwrap.indent(step, '    ')}" for n, step in enumerate(steps)]
    calls = "".join(f"    await step{n}()\n" for n in range(len(steps)))
    return "import asyncio\n\n" + "\n\n".join(functions) + f"\n\nasync def main():\n{calls}\n\nasyncio.run(main())\n"


@pytest.mark.parametrize("name", PAGES)
def test_every_example_runs(name: str, own_dsn: str, tmp_path: Path) -> None:
    page = (DOCS / f"{name}.md").read_text()
    for file, text in FILE.findall(page):
        (tmp_path / file).write_text(text)
    (tmp_path / "steps.py").write_text(script(page))
    environment = os.environ | {"PGWERK_DSN": own_dsn, "PYTHONWARNINGS": "error"}
    worker = subprocess.Popen(
        [sys.executable, "-m", "pgwerk", "worker", "shop:app"], cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        ran = subprocess.run(
            [sys.executable, "steps.py"], cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        for query in QUERY.findall(page):
            assert rows(own_dsn, query)
    finally:
        worker.terminate()
        log, _ = worker.communicate(timeout=40)
    assert worker.returncode == 0, log


def test_the_worker_with_hooks_says_what_it_sees(own_dsn: str, tmp_path: Path) -> None:
    for file, text in FILE.findall((DOCS / "workers.md").read_text()):
        (tmp_path / file).write_text(text)
    ran = subprocess.run(
        [sys.executable, "watch.py"], cwd=tmp_path, env=os.environ | {"PGWERK_DSN": own_dsn}, text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout.splitlines() == [
        "connected", "starts 1", "raised __main__.divide division by zero", "ended 1 division by zero",
    ]  # fmt: skip


@pytest.mark.parametrize("file", MADE, ids=lambda file: file.stem)
def test_a_page_that_is_made_is_in_step(file: Path) -> None:
    assert file.read_text() == MADE[file](), "run `python -m tests.docs`"


def test_every_command_is_on_its_page() -> None:
    page = CLI.read_text()
    for path, command in every_command(commands):
        assert f"\n## werk {' '.join(path)}\n" in page
        for option in (each for each in command.params if isinstance(each, click.Option)):
            assert option.name in WHICH_APP or option.opts[-1] in page


def test_every_page_is_in_the_site_and_every_link_leads_somewhere() -> None:
    listed = set(re.findall(r"^  - (\S+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {page.name for page in DOCS.glob("*.md")}
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\((\w+\.md)", page.read_text()):
            assert (DOCS / target).exists(), f"{page.name} → {target}"
