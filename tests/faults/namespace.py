"""A network of a test's own, with a cable that can be pulled."""

from __future__ import annotations

import os
import subprocess
from typing import Self

import pytest


class Namespace:
    """Processes behind `command` reach this machine by one cable alone, at `here`."""

    def __init__(self) -> None:
        number = _free_number()
        self._name, self._cable = f"pgwerk-{os.getpid()}-{number}", f"pgw{os.getpid() % 10**6}n{number}"
        self.here, self._there = f"10.213.{number}.1", f"10.213.{number}.2"
        self.command = ("ip", "netns", "exec", self._name)

    def __enter__(self) -> Self:
        made = subprocess.run(["ip", "netns", "add", self._name], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"a network namespace needs root's rights: {made.stderr.strip()}")
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self._name)
        _ip("address", "add", f"{self.here}/30", "dev", self._cable)
        _ip("-n", self._name, "address", "add", f"{self._there}/30", "dev", "eth0")
        _ip("-n", self._name, "link", "set", "eth0", "up")
        self.plug_in()
        return self

    def __exit__(self, *_: object) -> None:
        _ip("netns", "delete", self._name)

    def pull(self) -> None:
        """Nobody is told of it: what is sent gets no answer."""
        _ip("-n", self._name, "link", "set", "eth0", "down")

    def plug_in(self) -> None:
        _ip("link", "set", self._cable, "up")
        _ip("-n", self._name, "link", "set", "eth0", "up")


def _free_number() -> int:
    """Of a network that no other run has, nor one that was killed and left its own behind."""
    used = subprocess.run(["ip", "-4", "-oneline", "address"], capture_output=True, text=True, check=True).stdout
    numbers = (each % 250 for each in range(os.getpid(), os.getpid() + 250))
    return next(number for number in numbers if f" 10.213.{number}." not in used)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
