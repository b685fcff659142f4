"""What a process has written and not sent yet."""

from __future__ import annotations

import contextlib
import sys


def flush_streams() -> None:
    """Before a fork, and before an end without Python's own. A handler may have closed them, or whoever reads them."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
