"""What the demo's workers run: an app and its handlers, in a module of their own as any project has them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pgwerk.app import Werk
from pgwerk.config import WerkConfig

if TYPE_CHECKING:
    from pgwerk.context import Context

app = Werk(config=WerkConfig())  # the demo says where; what the environment says is meant for other apps


def hello() -> str:
    return "there is a worker"


def measure(ctx: Context, path: str, *, fails_first: bool = False) -> dict[str, int | str]:
    """Of one file: bytes, lines, checksum."""
    if fails_first and ctx.job.attempts == 1:
        raise OSError(f"made to fail once, to show a retry: {path}")
    content = Path(path).read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    return {"bytes": len(content), "lines": content.count(b"\n"), "sha256": checksum}
