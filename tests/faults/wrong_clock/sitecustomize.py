"""Python runs this at its start where its folder is on PYTHONPATH: its clock is off by PGWERK_TEST_CLOCK seconds."""

from __future__ import annotations

import datetime as dt
import os
import time
from functools import partial

OFF = int(os.environ["PGWERK_TEST_CLOCK"])


class _Kind(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _right)


class _Wrong(dt.datetime, metaclass=_Kind):
    __slots__ = ()  # C code looks at its size

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
        return _right.now(tz) + dt.timedelta(seconds=OFF)


def _wrong(right: object, off: int) -> float:
    return right() + off  # type: ignore[operator, no-any-return]


_right = dt.datetime
dt.datetime = _Wrong  # type: ignore[misc]
time.time = partial(_wrong, time.time, OFF)
time.time_ns = partial(_wrong, time.time_ns, OFF * 10**9)  # type: ignore[assignment]
