"""What probes are answered: by a worker, by a parent for its children, and whatever clients do."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import AsyncWorker, Werk, events
from pgwerk.worker import responder
from pgwerk.worker.health import Board, Health, State
from tests.feature.test_cli import Project, project_in, until
from tests.feature.test_supervisor import children, runs
from tests.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--heartbeat-interval", "0.3")  # not ready after a second and a half without the database


@pytest.fixture
def project(tmp_path: Path, dsn: str, schema: str) -> Project:
    return project_in(tmp_path, dsn, schema)


def ask(port: int, path: str = "/ready", method: str = "GET") -> tuple[int, Any]:
    """0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
    except OSError:
        return 0, None
    finally:
        connection.close()
    return answer.status, json.loads(body) if body else None


def is_ready(port: int) -> bool:
    return ask(port)[0] == 200


def why(port: int, path: str = "/ready") -> str:
    return str((ask(port, path)[1] or {}).get("why"))


async def test_a_worker_says_how_it_is(project: Project, app: Werk, port: int) -> None:
    await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    with project.start(
        "worker", "tasks:app", "--health-port", str(port), "--queues", "default,b", "--shutdown-timeout", "3600"
    ) as worker:
        until(project.started)
        (known,) = await app.list_workers()
        status, body = ask(port)
        silent_for = body["workers"][0].pop("silent_for")
        assert (status, body) == (
            200,
            {"ok": True, "why": None, "queues": ["default", "b"], "workers": [{"id": known.id, "running": 1}]},
        )
        assert 0 <= silent_for < 10
        assert ask(port, "/live?verbose")[0] == 200
        assert ask(port, "/ready", "HEAD") == (200, None)
        assert ask(port, "/") == (404, {"ok": False, "why": "there are /live and /ready, got '/'"})
        assert ask(port, "/ready", "POST")[0] == 404
        worker.send(signal.SIGTERM)
        worker.wait_for("stops (SIGTERM)")
        assert why(port) == f"worker {known.id} is shutting down"
        assert (ask(port)[0], ask(port, "/live")[0]) == (503, 200)
        worker.send(signal.SIGTERM)
        assert worker.status() == 0
    assert ask(port)[0] == 0


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_ready_is_who_hears_from_the_database(
    project: Project, app: Werk, port: int, dsn: str, processes: str
) -> None:
    async with Proxy(dsn) as proxy:
        arguments = ("worker", "tasks:app", "--health-port", str(port), "--processes", processes, *QUICK)
        with project.start(*arguments, "--dsn", proxy.dsn) as worker:
            await asyncio.to_thread(until, lambda: is_ready(port))
            await proxy.refuse()
            proxy.cut()
            await asyncio.to_thread(until, lambda: "has not heard from the database for" in why(port))
            assert (await asyncio.to_thread(ask, port))[0] == 503
            await asyncio.to_thread(until, lambda: ask(port, "/live")[0] == 200)
            await proxy.accept()
            await asyncio.to_thread(until, lambda: is_ready(port))
            worker.send(signal.SIGTERM)
            assert await asyncio.to_thread(worker.status) == 0


async def test_silence_on_the_conversation_alone_is_no_readiness(
    app: Werk, dsn: str, schema: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beat still arrives, so nobody takes it for dead; and it can neither take nor settle anything."""
    gate = asyncio.Event()
    worker = AsyncWorker(app, health_port=port, heartbeat_interval=0.1, poll_interval=0.1)
    running = asyncio.create_task(worker.run())
    await asyncio.to_thread(until, lambda: is_ready(port))
    assert worker._life is not None
    turn = worker._life._exchange.take_turn

    async def held_up(*given: Any, **more: Any) -> Any:
        await gate.wait()
        return await turn(*given, **more)

    monkeypatch.setattr(worker._life._exchange, "take_turn", held_up)
    await asyncio.to_thread(until, lambda: "has not heard from the database" in why(port))
    gate.set()
    await asyncio.to_thread(until, lambda: is_ready(port))
    worker.stop()
    await running


async def test_a_parent_answers_for_all_its_children(project: Project, app: Werk, port: int, dsn: str) -> None:
    arguments = ("worker", "tasks:app", "--processes", "2", "--health-port", str(port))
    async with Proxy(dsn) as proxy:
        with project.start(*arguments, "--dsn", proxy.dsn) as worker:
            first, second = await asyncio.to_thread(children, worker)
            await asyncio.to_thread(until, lambda: is_ready(port))
            _, body = await asyncio.to_thread(ask, port)
            assert {each["id"] for each in body["workers"]} == {each.id for each in await app.list_workers()}
            await proxy.refuse()
            os.kill(first, signal.SIGKILL)
            await asyncio.to_thread(worker.wait_for, "ended with exit status 1; another one takes its place")
            assert (await asyncio.to_thread(why, port)) == "a worker has not begun, or has ended"
            assert (await asyncio.to_thread(ask, port, "/live"))[0] == 200
            await proxy.accept()
            *_, third = await asyncio.to_thread(children, worker, 3)
            await asyncio.to_thread(until, lambda: is_ready(port))
            os.kill(second, signal.SIGSTOP)
            worker.send(signal.SIGTERM)
            await asyncio.to_thread(until, lambda: ask(port)[0] == 503)
            os.kill(second, signal.SIGCONT)
            assert await asyncio.to_thread(worker.status) == 0
            assert not any(map(runs, (first, second, third)))


def test_a_child_that_is_blocked_is_no_life(project: Project, app: Werk, port: int) -> None:
    with project.start("worker", "tasks:app", "--processes", "2", "--health-port", str(port), *QUICK) as worker:
        _, second = children(worker)
        until(lambda: is_ready(port))
        os.kill(second, signal.SIGSTOP)
        until(lambda: "has been blocked for" in why(port, "/live"))
        assert ask(port, "/live")[0] == 503
        os.kill(second, signal.SIGCONT)
        until(lambda: ask(port, "/live")[0] == 200)
        worker.send(signal.SIGTERM)
        assert worker.status() == 0


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_in_use_is_said_in_one_line(project: Project, app: Werk, processes: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        done = project.run("worker", "tasks:app", "--health-port", str(number), "--processes", processes)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: no probe can be answered at port {number} of 127.0.0.1: Address already in use; "
        "give another health_port or health_host\n"
    )


async def test_a_worker_in_a_program_answers_too_and_gives_its_port_back(app: Werk, port: int) -> None:
    for _ in range(2):
        worker = AsyncWorker(app, health_port=port)
        running = asyncio.create_task(worker.run())
        await asyncio.to_thread(until, lambda: is_ready(port))
        worker.stop()
        await running
    assert ask(port)[0] == 0


@pytest.mark.parametrize("kind", ["process", "fork"])
async def test_the_processes_of_handlers_do_not_hold_the_port(
    project: Project, app: Werk, port: int, kind: str
) -> None:
    """What outlives a worker that is killed would keep its successor from it."""
    await app.enqueue("tests.handlers.write_and_sleep", *project.sleeper)
    arguments = ("worker", "tasks:app", "--worker-type", kind, "--health-port", str(port))
    with project.start(*arguments) as worker:
        until(project.started)
        worker.send(signal.SIGKILL)
        worker.status()
        socket.create_server(("127.0.0.1", port)).close()


def trouble(port: int, stack: contextlib.ExitStack) -> None:
    for number in range(3 * responder.CLIENTS):
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        with contextlib.suppress(ConnectionError):
            client.sendall(os.urandom(number * 100))


async def test_rubbish_and_silence_harm_no_worker(
    app: Werk, port: int, heard: list[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = AsyncWorker(app, health_port=port)
    running = asyncio.create_task(worker.run())
    await asyncio.to_thread(until, lambda: is_ready(port))
    with contextlib.ExitStack() as stack:
        await asyncio.to_thread(trouble, port, stack)
        assert await asyncio.to_thread(is_ready, port)
        assert await app.apply("tests.handlers.echo", 1, timeout=20) == 1
    worker.stop()
    await running
    assert not [event for event in heard if isinstance(event, events.DutyFailed)]


def test_states_pass_between_processes() -> None:
    board = Board(2)
    state = State(1.5, 2**40, 3, True, 0.25)
    board.put(1, state)
    assert (board.get(0), board.get(1)) == (None, state)
    board.put(1, None)
    assert board.get(1) is None


@pytest.mark.parametrize(
    ("state", "live", "ready"),
    [
        (None, None, "a worker has not begun, or has ended"),
        (State(100, 7, 0, False, 90), None, None),
        (State(100, 7, 0, False, 89), None, "worker 7 has not heard from the database for 11.0 s"),
        (State(100, 7, 0, True, 89), None, "worker 7 is shutting down"),
        (State(89, 7, 0, False, 100), "worker 7 has been blocked for 11.0 s", "worker 7 has been blocked for 11.0 s"),
    ],
)
def test_what_stands_in_the_way(state: State | None, live: str | None, ready: str | None) -> None:
    health = Health("127.0.0.1", 80, ["default"], patience=10)
    for path, expected in (("/live", live), ("/ready", ready)):
        reply = health.answer(path, [State(100, 6, 0, False, 100), state], now=100)
        assert json.loads(reply.body)["why"] == expected
        assert reply.status == (200 if expected is None else 503)
