"""One suite for the four kinds of worker: what a handler can count on wherever it runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgwerk import (
    AsyncWorker,
    Context,
    EnqueueParams,
    ForkWorker,
    Job,
    JobError,
    JobStatus,
    NotSerializable,
    ProcessWorker,
    Retry,
    ThreadWorker,
    Werk,
    configure_logging,
    waiters,
    wire,
)
from tests import handlers
from tests.feature.test_running import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pgwerk.worker.worker import Worker

KINDS = [AsyncWorker, ThreadWorker, ProcessWorker, ForkWorker]
IN_THREADS = [AsyncWorker, ThreadWorker]
IN_PROCESSES = [ProcessWorker, ForkWorker]
GRACE = 0.3  # seconds from SIGTERM to SIGKILL
BIG = 10_000_000
HOME = os.getpid()

OPEN = "select pid from pg_stat_activity where pid = any (%s)"


def where() -> list[int]:
    return [os.getpid(), threading.get_ident()]


async def where_async() -> list[int]:
    return where()


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """The usual decorator: what it makes of a coroutine function is none, and returns a coroutine."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def to_its_end(function: Callable[..., Any]) -> Callable[..., Any]:
    """The other one: a coroutine function becomes a plain one, with a loop of its own."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return asyncio.run(function(*args))

    return wrapper


def awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any) -> Any:
        return await function(*args)

    return wrapper


@passing_on
async def where_passed_on() -> list[int]:
    return where()


@to_its_end
async def where_to_its_end() -> list[int]:
    return where()


@awaiting
async def where_awaited() -> list[int]:
    return where()


class Place:
    @classmethod
    @passing_on
    async def of_class(cls) -> list[int]:
        return where()

    @staticmethod
    @to_its_end
    async def static() -> list[int]:
        return where()

    async def __call__(self) -> list[int]:
        return where()


place = Place()


@to_its_end
async def remember_to_its_end(ctx: Context) -> str:
    return await handlers.remember(ctx)


def told(ctx: Context, value: Any) -> dict[str, Any]:
    return {"job": ctx.job.id, "attempt": ctx.job.attempts, "worker": ctx.worker.name, "value": value}


async def told_async(ctx: Context, value: Any) -> dict[str, Any]:
    return told(ctx, value)


async def enqueue_another(ctx: Context) -> int:
    job = await ctx.app.enqueue(handlers.square, 3, _meta={"from": ctx.job.id})
    assert job is not None
    return job.id


async def enter_and_enqueue(ctx: Context) -> int:
    async with ctx.app:
        return await enqueue_another(ctx)


async def keeping(ctx: Context, way: str) -> list[int]:
    """The server's processes that are connected with this one once it has enqueued in that way."""
    inherited = set(wire._sessions)
    await getattr(ctx.app, way)(handlers.noop)
    opened = [session.pgconn for session in set(wire._sessions) - inherited]
    return [pgconn.backend_pid for pgconn in opened if pgconn.status == psycopg.pq.ConnStatus.OK]


class Shop(Werk):
    """Made in a way of its own."""

    def __init__(self, name: str, dsn: str) -> None:
        super().__init__(dsn, schema=name)
        self.name = name


def name_of_app(ctx: Context) -> str:
    assert isinstance(ctx.app, Shop)
    return ctx.app.name


def touch(ctx: Context) -> None:
    ctx.touch()
    time.sleep(1)


def double(text: str) -> str:
    return text + text


def shout() -> None:
    print("heard in the worker's own stdout")


def log_line() -> None:
    logging.getLogger("shop").info("a line of a handler")


async def log_line_async() -> None:
    log_line()


class OddError(Exception):
    """One that cannot be pickled."""

    def __init__(self, message: str, lock: Any) -> None:
        super().__init__(message)
        self.lock = lock


def raise_odd() -> None:
    raise OddError("odd", threading.Lock())


class MuteError(NotSerializable):
    """One that has no words, of those whose words are all that is told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def raise_mute() -> None:
    raise MuteError


class ShyError(Exception):
    """One that can be read everywhere but in the worker."""

    def __reduce__(self) -> Any:
        return _elsewhere, self.args


def _elsewhere(message: str) -> ShyError:
    if os.getpid() == HOME:
        raise RuntimeError("not here")
    return ShyError(message)


def raise_shy() -> None:
    raise ShyError("shy")


def leave() -> None:
    raise SystemExit(3)


def block_for(path: str, seconds: float) -> None:
    with open(path, "a") as file:  # noqa: PTH123
        file.write("started\n")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


async def sleep_for(path: str, seconds: float) -> None:
    try:
        await handlers.write_and_sleep(path, "started", seconds)
    finally:
        await handlers.write(path, "cleaned up")


@passing_on
async def sleep_passed_on(path: str, seconds: float) -> None:
    await sleep_for(path, seconds)


@to_its_end
async def sleep_to_its_end(path: str, seconds: float) -> None:
    await handlers.write_and_sleep(path, "started", seconds)


def block_and_pass_on(path: str, seconds: float) -> Any:
    block_for(path, seconds)
    return handlers.write(path, "begun")


async def finish_anyway(path: str) -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await handlers.write_and_sleep(path, "started", 3600)
    return "finished"


async def fail_when_told(path: str) -> None:
    try:
        await handlers.write_and_sleep(path, "started", 3600)
    except asyncio.CancelledError as told:
        raise ConnectionError("the answer was cut off") from told


def leave_when_told(path: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    block_for(path, 3600)


def ignore_sigterm(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    block_for(path, 3600)


def outlast_sigterm(path: str) -> None:
    def note(*_: object) -> None:
        with open(path, "a") as file:  # noqa: PTH123
            file.write(f"told {os.getpid()}\n")

    signal.signal(signal.SIGTERM, note)
    while True:
        time.sleep(1)


def hang_up_and_run_on(path: str) -> None:
    os.closerange(3, 1000)
    with open(path, "w") as file:  # noqa: PTH123
        file.write(f"told {os.getpid()}\n")
    time.sleep(3600)


def die_of(number: int) -> None:
    os.kill(os.getpid(), number)


def die_and_leave_a_child(path: str) -> None:
    """Which holds everything open that its parent had open."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    with open(path, "w") as file:  # noqa: PTH123
        file.write(str(child))
    os.kill(os.getpid(), signal.SIGKILL)


def exit_at_once(status: int) -> None:
    os._exit(status)


@pytest.fixture(params=KINDS)
async def any_worker(request: pytest.FixtureRequest, app: Werk) -> AsyncIterator[Worker]:
    async with _running(app, request.param) as running:
        yield running


@pytest.fixture(params=KINDS)
def any_kind(request: pytest.FixtureRequest) -> type[Worker]:
    kind: type[Worker] = request.param
    return kind


@pytest.fixture(params=IN_PROCESSES)
async def process_worker(request: pytest.FixtureRequest, app: Werk) -> AsyncIterator[Worker]:
    async with _running(app, request.param) as running:
        yield running


@contextlib.asynccontextmanager
async def _running(app: Werk, kind: type[Worker], sigterm_grace: float = GRACE) -> AsyncIterator[Worker]:
    runner = kind(app, concurrency=2, sigterm_grace=sigterm_grace, shutdown_timeout=0.5)
    task = asyncio.create_task(runner.run())
    yield runner
    runner.stop()
    await task


async def _failed(app: Werk, function: Callable[..., Any], *args: Any, **options: Any) -> Job:
    with pytest.raises(JobError) as caught:
        await app.apply(function, *args, timeout=20, **options)
    return caught.value.job


async def _started(app: Werk, path: Path, function: Callable[..., Any], *args: Any, **options: Any) -> Job:
    job = await app.enqueue(function, str(path), *args, **options)
    assert job is not None
    async with asyncio.timeout(20):
        while not path.exists() or "started" not in path.read_text():
            await asyncio.sleep(0.01)
    return job


@pytest.mark.parametrize("function", [told, told_async])
async def test_a_result_and_the_context(app: Werk, any_worker: Worker, function: Any) -> None:
    value = {"a": [1, 2.5, None, "ü"], "text": "123"}
    result = await app.apply(function, value, timeout=20)
    (job,) = await app.list_jobs()
    assert result == {"job": job.id, "attempt": 1, "worker": any_worker.name, "value": value}


PLAIN = [where, where_to_its_end, Place.static]
COROUTINES = [where_async, where_passed_on, where_awaited, Place.of_class, f"{__name__}.place"]


@pytest.mark.parametrize("function", PLAIN + COROUTINES)
async def test_handlers_run_where_the_kind_says(app: Werk, any_worker: Worker, function: Any) -> None:
    process, thread = await app.apply(function, timeout=20)
    assert (process == os.getpid()) is isinstance(any_worker, AsyncWorker | ThreadWorker)
    on_loop = isinstance(any_worker, AsyncWorker) and function in COROUTINES
    if process == os.getpid():
        assert (thread == threading.get_ident()) is on_loop


async def test_a_callback_may_be_a_plain_wrapper_of_a_coroutine(app: Werk, any_worker: Worker) -> None:
    assert await app.apply(handlers.square, 3, _on_success=remember_to_its_end, timeout=20) == 9
    callback, job = await app.list_jobs()
    assert (await app.wait_for(callback, timeout=20)).result == f"job {job.id} complete: 9"


async def test_an_exception_comes_with_its_type_and_whole_traceback(app: Werk, any_worker: Worker) -> None:
    error = (await _failed(app, handlers.fail, "on purpose")).error or ""
    assert error.startswith("Traceback (most recent call last):")
    assert "raise ValueError(message)" in error
    assert error.endswith("ValueError: on purpose")
    assert "pgwerk/worker" not in error


async def test_an_exception_that_cannot_travel_is_told_all_the_same(app: Werk, any_worker: Worker) -> None:
    seen: list[Any] = []
    any_worker.push_exception_handler(lambda job, error: seen.append((job.id, str(error))))
    job = await _failed(app, raise_odd)
    assert (job.error or "").endswith("OddError: odd")
    assert seen[0][0] == job.id
    assert "odd" in seen[0][1]


async def test_an_exception_without_words_ends_its_attempt(app: Werk, any_worker: Worker) -> None:
    assert (await _failed(app, raise_mute)).error == "MuteError: a MuteError that cannot be shown"
    assert await app.map(handlers.square, [[n] for n in range(4)], timeout=20) == [0, 1, 4, 9]


async def test_an_exception_that_cannot_be_read_in_the_worker_keeps_its_words(
    app: Werk, process_worker: Worker
) -> None:
    seen: list[Any] = []
    process_worker.push_exception_handler(lambda _, error: seen.append(str(error)))
    error = (await _failed(app, raise_shy)).error or ""
    assert "in raise_shy" in error
    assert error.endswith("ShyError: shy")
    assert seen == [error.rpartition("\n")[2]]


async def test_a_handler_that_wants_to_leave_fails_alone(app: Werk, any_worker: Worker) -> None:
    assert ((await _failed(app, leave)).error or "").endswith("SystemExit: 3")
    assert await app.apply(handlers.square, 3, timeout=20) == 9


async def test_a_handler_enqueues_through_its_context(app: Werk, any_worker: Worker) -> None:
    first = await app.apply(enqueue_another, timeout=20)
    assert (await app.wait_for(first, timeout=20)).result == 9


async def test_what_a_handler_enqueues_passes_the_hooks_of_its_app(app: Werk, any_kind: type[Worker]) -> None:
    def stamp(params: EnqueueParams) -> None:
        params.meta = {**(params.meta or {}), "by": "hook"}

    app.register_before_enqueue(stamp)
    async with _running(app, any_kind):
        first = await app.apply(enqueue_another, timeout=20)
        assert (await app.get_job(first)).meta == {"from": first - 1, "by": "hook"}


async def test_an_app_of_a_class_of_ones_own_is_itself_in_every_process(
    app: Werk, dsn: str, schema: str, any_kind: type[Worker]
) -> None:
    async with Shop(schema, dsn) as shop, _running(shop, any_kind):
        assert await shop.apply(name_of_app, timeout=20) == schema


async def test_a_handler_that_enters_its_app_does_not_disconnect_it_for_the_next(app: Werk, any_worker: Worker) -> None:
    for handler in (enter_and_enqueue, enqueue_another) * 3:
        first = await app.apply(handler, timeout=20)
        assert (await app.wait_for(first, timeout=20)).result == 9


async def test_ten_megabytes_go_in_and_come_out(app: Werk, any_worker: Worker) -> None:
    text = "x" * BIG
    assert await app.apply(double, text, timeout=60) == text + text


async def test_stdout_is_left_alone(app: Werk, any_worker: Worker, capfd: pytest.CaptureFixture[str]) -> None:
    await app.apply(shout, timeout=20)
    any_worker.stop()
    async with asyncio.timeout(20):
        while (await app.list_workers())[0].state == "alive":
            await asyncio.sleep(0.02)
    assert capfd.readouterr().out.count("heard in the worker's own stdout") == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", [log_line, log_line_async])
async def test_a_line_that_a_handler_logs_carries_its_job(
    app: Werk, kind: type[Worker], function: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers_before, level = root.handlers[:], root.level
    configure_logging("info")
    try:
        async with _running(app, kind):
            await app.apply(function, timeout=20)
    finally:
        root.handlers[:], root.level = handlers_before, level
    (job,) = await app.list_jobs()
    assert f"a line of a handler [job {job.id} {job.function} attempt 1]\n" in capfd.readouterr().err


@pytest.mark.parametrize("function", [sleep_for, sleep_passed_on])
async def test_a_coroutine_past_its_timeout_is_cancelled_and_cleans_up(
    app: Werk, any_worker: Worker, tmp_path: Path, function: Any
) -> None:
    job = await _failed(app, function, str(tmp_path / "facts"), 3600, _timeout=1)
    assert (job.error or "").endswith("the attempt took longer than its 1 s")
    assert (tmp_path / "facts").read_text() == "started\ncleaned up\n"
    assert await app.apply(handlers.square, 3, timeout=20) == 9


@pytest.mark.parametrize("kind", IN_THREADS)
@pytest.mark.parametrize("function", [block_for, sleep_to_its_end, block_and_pass_on])
async def test_a_thread_past_its_timeout_keeps_its_slot_until_it_returns(
    app: Werk, kind: type[Worker], tmp_path: Path, function: Any
) -> None:
    async with _running(app, kind) as running:
        job = await _failed(app, function, str(tmp_path / "facts"), 2.5, _timeout=0.5)
        assert (job.error or "").endswith("the attempt took longer than its 0.5 s")
        assert running._life is not None
        assert running._life._attempts._stuck == 1
        async with asyncio.timeout(20):
            while running._life._attempts._stuck:
                await asyncio.sleep(0.02)
    assert (tmp_path / "facts").read_text() == "started\n"  # a coroutine that comes too late is not begun


@pytest.mark.parametrize("function", [block_for, ignore_sigterm, sleep_to_its_end, block_and_pass_on])
async def test_blocking_code_past_its_timeout_is_killed_and_its_slot_is_free(
    app: Werk, process_worker: Worker, tmp_path: Path, function: Any
) -> None:
    args = () if function is ignore_sigterm else (3600,)
    jobs = await asyncio.gather(
        *[_failed(app, function, str(tmp_path / f"facts{n}"), *args, _timeout=0.2) for n in range(3)]
    )
    assert {(job.error or "").rpartition(": ")[2] for job in jobs} == {"the attempt took longer than its 0.2 s"}
    assert await app.map(handlers.square, [[n] for n in range(4)], timeout=20) == [0, 1, 4, 9]


@pytest.mark.parametrize("function", [sleep_for, sleep_passed_on, block_for, sleep_to_its_end, block_and_pass_on])
async def test_an_abort_ends_a_job_whose_code_would_run_on(
    app: Werk, any_worker: Worker, tmp_path: Path, function: Any
) -> None:
    is_coroutine = function in (sleep_for, sleep_passed_on)
    job = await _started(app, tmp_path / "facts", function, 3600 if is_coroutine else 3)
    asked = time.monotonic()
    assert await app.abort_job(job)
    assert (await app.get_job(job)).status in (JobStatus.Aborting, JobStatus.Aborted)
    ended = await app.wait_for(job, timeout=20)
    assert time.monotonic() - asked < 2.5
    assert (ended.status, ended.error) == (JobStatus.Aborted, "aborted while it ran")
    if is_coroutine:
        assert (tmp_path / "facts").read_text() == "started\ncleaned up\n"


@pytest.mark.parametrize("function", [outlast_sigterm, hang_up_and_run_on])
@pytest.mark.parametrize("kind", IN_PROCESSES)
async def test_a_process_that_is_being_ended_is_gone_before_its_job_is_aborted(
    app: Werk, tmp_path: Path, kind: type[Worker], function: Any
) -> None:
    facts = tmp_path / "facts"
    async with _running(app, kind, sigterm_grace=2):
        job = await app.enqueue(function, str(facts), _timeout=1 if function is outlast_sigterm else None)
        assert job is not None
        told = await until(lambda: facts.exists() and facts.read_text().endswith("\n") and facts.read_text(), "told")
        await app.abort_job(job)
        await app.wait_for(job, timeout=20)
        with pytest.raises(ProcessLookupError):
            os.kill(int(told.split()[1]), 0)


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        (die_of, signal.SIGSEGV, "the process of the attempt was ended by signal SIGSEGV"),
        (die_of, signal.SIGKILL, "the process of the attempt was ended by signal SIGKILL (out of memory?)"),
        (exit_at_once, 3, "the process of the attempt ended with exit status 3"),
    ],
)
async def test_a_crash_fails_its_job_alone(
    app: Werk, process_worker: Worker, tmp_path: Path, function: Any, argument: int, words: str
) -> None:
    beside = await _started(app, tmp_path / "facts", sleep_for, 0.5)
    job = await _failed(app, function, int(argument))
    assert (job.status, job.error) == (JobStatus.Failed, words)
    assert (await app.wait_for(beside, timeout=20)).status == JobStatus.Complete
    assert await app.apply(handlers.square, 3, timeout=20) == 9


async def test_a_crash_uses_an_attempt_and_the_next_one_runs(app: Werk, process_worker: Worker) -> None:
    job = await _failed(app, die_of, int(signal.SIGSEGV), _retry=Retry(max=3))
    assert [each.status for each in await app.get_executions(job)] == ["failed"] * 3


async def test_a_pool_keeps_its_processes_and_replaces_one_that_died(app: Werk) -> None:
    async with _running(app, ProcessWorker):
        before = {(await app.apply(where, timeout=20))[0] for _ in range(10)}
        assert len(before) <= 2
        await _failed(app, exit_at_once, 1)
        after = {(await app.apply(where, timeout=20))[0] for _ in range(10)}
        assert len(after) <= 2


@pytest.mark.parametrize("way", ["enqueue", "apply"])
async def test_a_process_that_waits_for_work_keeps_no_connection(
    app: Werk, query: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(waiters, "LINGER", 0.5)
    async with _running(app, ProcessWorker):
        kept = await app.apply(keeping, way, timeout=20)
        assert kept
        await until(lambda: not query(OPEN, kept), "it has let go of it")
        await app.apply(keeping, way, timeout=20)


async def test_a_fork_is_for_one_job(app: Werk) -> None:
    async with _running(app, ForkWorker):
        assert len({(await app.apply(where, timeout=20))[0] for _ in range(5)}) == 5


async def test_a_sign_of_life_is_given_from_anywhere(app: Werk, any_worker: Worker, query: Any) -> None:
    job = await app.enqueue(touch, _heartbeat=3600)
    assert job is not None
    async with asyncio.timeout(20):
        while not query("select job_id from active where touched_at is not null"):
            await asyncio.sleep(0.02)
    assert (await app.wait_for(job, timeout=20)).status == JobStatus.Complete


async def _is_handed_back(app: Werk, running: Worker, job: Job) -> bool:
    """By a stop, and without an attempt."""
    running.stop()
    async with asyncio.timeout(20):
        while (found := await app.get_job(job)).status in (JobStatus.Active, JobStatus.Aborting):
            await asyncio.sleep(0.02)
    return (found.status, found.attempts) == (JobStatus.Queued, 0)


async def test_a_stop_hands_running_jobs_back(app: Werk, any_worker: Worker, tmp_path: Path) -> None:
    job = await _started(app, tmp_path / "facts", sleep_for, 3600)
    assert await _is_handed_back(app, any_worker, job)


async def test_a_stop_hands_back_what_turns_its_end_into_an_error(
    app: Werk, any_worker: Worker, tmp_path: Path
) -> None:
    job = await _started(app, tmp_path / "facts", fail_when_told)
    assert await _is_handed_back(app, any_worker, job)


async def test_a_stop_hands_back_what_leaves_its_process(app: Werk, process_worker: Worker, tmp_path: Path) -> None:
    job = await _started(app, tmp_path / "facts", leave_when_told)
    assert await _is_handed_back(app, process_worker, job)


@pytest.mark.parametrize("is_aborted", [False, True])
async def test_what_a_handler_gives_although_it_was_told_to_end_is_kept(
    app: Werk, any_worker: Worker, tmp_path: Path, is_aborted: bool
) -> None:
    job = await _started(app, tmp_path / "facts", finish_anyway)
    if is_aborted:
        assert await app.abort_job(job)
    else:
        any_worker.stop()
    ended = await app.wait_for(job, timeout=20)
    assert (ended.status, ended.result) == (JobStatus.Complete, "finished")


async def test_no_process_outlives_its_worker(app: Werk) -> None:
    for kind in IN_PROCESSES:
        async with _running(app, kind):
            pid, _ = await app.apply(where, timeout=20)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_process_that_dies_is_noticed_though_it_left_a_child_behind(
    process_worker: Worker, app: Werk, tmp_path: Path
) -> None:
    where = tmp_path / "child"
    began = time.monotonic()
    job = await _failed(app, die_and_leave_a_child, str(where))
    assert (job.error or "").startswith("the process of the attempt was ended by signal SIGKILL")
    assert time.monotonic() - began < 30
    os.kill(int(where.read_text()), signal.SIGKILL)
