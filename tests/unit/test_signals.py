"""Who hears of a signal, and when."""

from __future__ import annotations

import asyncio
import signal

import pytest

from pgwerk import signals
from pgwerk.signals import STOPPING, stop_signals


class Broken(BaseException):
    """As what ends an attempt."""


def break_in() -> None:
    raise Broken


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "DEAF", 0.0)


async def all_heard(heard: list[str], count: int) -> None:
    async with asyncio.timeout(10):
        while len(heard) < count:
            await asyncio.sleep(0)


async def test_what_holds_up_the_loop_is_broken_into_by_a_second_signal() -> None:
    heard: list[str] = []
    with stop_signals(heard.append, break_in):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Broken):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Broken):
            signal.raise_signal(signal.SIGINT)
        assert heard == []
        await all_heard(heard, 3)
    assert heard == ["SIGTERM", "SIGINT", "SIGINT"]


async def test_a_loop_that_comes_round_is_never_broken_into() -> None:
    heard: list[str] = []
    with stop_signals(heard.append, break_in):
        for count in range(1, 10):
            signal.raise_signal(signal.SIGTERM)
            await all_heard(heard, count)


async def test_signals_do_afterwards_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    with stop_signals(lambda _: None, break_in):
        assert [signal.getsignal(number) for number in STOPPING] != before
    assert [signal.getsignal(number) for number in STOPPING] == before
