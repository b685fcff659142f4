"""Where the processes of handlers come from: none of them is forgotten, and none misses a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk.worker.executors.nursery import Nursery
from pgwerk.worker.executors.processes import _Line

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable

CHILDREN = 20


def wait_for_the_end(channel: socket.socket) -> None:
    channel.recv(1)


def outlast_sigterm(channel: socket.socket) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel.sendall(b"!")
    wait_for_the_end(channel)


@pytest.fixture
async def nursery() -> AsyncIterator[Nursery]:
    nursery = Nursery(wait_for_the_end)
    yield nursery
    nursery.close()


async def no_child_is_left(nursery: Nursery) -> None:
    async with asyncio.timeout(20):
        while nursery._expected or nursery._children:
            await asyncio.sleep(0.01)


async def test_a_signal_reaches_a_child_that_has_just_been_born(nursery: Nursery) -> None:
    async with asyncio.timeout(20):
        for _ in range(CHILDREN):
            child = await nursery.child()
            child.kill(signal.SIGTERM)
            assert await child.ended == -signal.SIGTERM
            child.channel.close()


def _cancelled_after(note: Callable[..., None], task: asyncio.Task[Any]) -> Callable[..., None]:
    def note_and_cancel(*answer: int) -> None:
        note(*answer)
        task.cancel()

    return note_and_cancel


@pytest.mark.parametrize("is_born", [False, True])
async def test_a_child_that_nobody_waits_for_any_more_ends(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch, is_born: bool
) -> None:
    task = asyncio.create_task(nursery.child())
    await asyncio.sleep(0)
    assert nursery._expected
    if is_born:
        monkeypatch.setattr(nursery, "_note", _cancelled_after(nursery._note, task))
    else:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await no_child_is_left(nursery)


async def test_a_child_is_ended_though_whoever_waits_for_it_gives_up() -> None:
    with contextlib.closing(Nursery(outlast_sigterm)) as nursery:
        child = await nursery.child()
        child.channel.recv(1)
        ending = asyncio.create_task(child.end(0.1))
        for _ in range(2):
            await asyncio.sleep(0)
            ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        async with asyncio.timeout(10):
            assert await child.ended == -signal.SIGKILL
        child.channel.close()


async def test_a_child_whose_line_was_not_to_be_ends(nursery: Nursery) -> None:
    task = asyncio.create_task(_Line.to(await nursery.child()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await no_child_is_left(nursery)
