"""What the exit code of `werk` says."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member

    Fine = 0, "it is done, or all is well"
    No = 1, "it failed or was refused, or the answer is no; one line on stderr, or the output, says why"
    Usage = 2, "the command line cannot be read: an unknown command or option, a word where a number belongs"
    Interrupted = 130, "stopped by Ctrl-C, with everything tidied up (a worker or a live screen that ends so: 0)"
