"""The pages of the documentation that are made: `python -m tests.docs` writes them, a test compares them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from pgwerk.cli.settings import shown
from pgwerk.config import WerkConfig, environ_name

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCS = Path(__file__).parent.parent / "docs"
SETTINGS = DOCS / "settings.md"


def settings_page() -> str:
    rows = "\n".join(
        f"| `{setting.name}` | `{environ_name(setting.name)}` | {shown(setting.default)} | {_about(setting.metadata)} |"
        for setting in fields(WerkConfig)
    )
    return f"""# Settings

What a program gives to `WerkConfig`, `Werk` or a worker beats the environment, which beats the default; what `werk` is
given on the command line (`--concurrency 5` for `concurrency`) beats them all.

| setting | environment | default | meaning |
|---|---|---|---|
{rows}
"""


def _about(metadata: Mapping[str, object]) -> str:
    choices = metadata["choices"]
    assert isinstance(choices, tuple)
    return str(metadata["text"]) + (f": {', '.join(map(str, choices))}" if choices else "")


if __name__ == "__main__":
    SETTINGS.write_text(settings_page())
    print(f"{SETTINGS} is written")
