"""A signal before there is a worker to hear it."""

from __future__ import annotations

import subprocess
import sys

import pytest

STEPS = """
import asyncio, os, random, signal, threading
from pgwerk.cli.process import leave_on_signals
from pgwerk.signals import Leaving, run_through

async def go_step_by_step(stroke):
    stroke.start()
    while True:
        await asyncio.sleep(0)

leave_on_signals()
for _ in range(300):
    stroke = threading.Timer(random.uniform(0.001, 0.003), os.kill, (os.getpid(), signal.SIGTERM))
    try:
        with asyncio.Runner() as runner:
            run_through(runner.get_loop(), runner.get_loop().create_task(go_step_by_step(stroke)))
    except Leaving:
        continue
    raise SystemExit("nobody left")
"""
HELD_UP = """
import asyncio, os, signal, threading, time
from pgwerk.cli.process import leave_on_signals
from pgwerk.signals import run_through

async def hold_up():
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    time.sleep(60)

leave_on_signals()
with asyncio.Runner() as runner:
    run_through(runner.get_loop(), runner.get_loop().create_task(hold_up()))
"""
OUTSIDE = """
import os, signal, time
from pgwerk.cli.process import leave_on_signals

leave_on_signals()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""


@pytest.mark.parametrize("script", [STEPS, HELD_UP, OUTSIDE], ids=["in a loop's own code", "in a task", "outside"])
def test_whoever_is_told_to_leave_leaves(script: str) -> None:
    """A loop that lost a step by it would wait for its task for ever."""
    assert subprocess.run([sys.executable, "-c", script], timeout=30, check=False).returncode == 0
