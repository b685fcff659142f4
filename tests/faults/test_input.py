"""Whatever is given for whatever argument, it has its documented effect or is refused in a sentence of ours; nothing is
half done, nothing hangs, and no text ever becomes SQL. PGWERK_TEST_INPUTS is how many calls are tried;
PGWERK_TEST_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, given, seed, settings, strategies as st

from pgwerk import (
    AsyncWorker,
    Callback,
    Dependency,
    EnqueueParams,
    Repeat,
    Retry,
    Werk,
    WerkConfig,
    WerkError,
    configure_logging,
)
from pgwerk.filters import Filters
from pgwerk.params import OPTIONS
from pgwerk.schedule import ScheduleParams
from pgwerk.scheduler import Scheduler
from pgwerk.worker.worker import Worker
from tests import handlers
from tests.faults.odd import GROWN, ODD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Door = Callable[[Werk, Any], Awaitable[object] | object]

INPUTS = int(os.environ.get("PGWERK_TEST_INPUTS", "600"))
SEED = int(os.environ.get("PGWERK_TEST_SEED", random.randrange(2**32)))
PATIENCE = 20.0  # seconds for one call
LONGEST = 1000  # characters of an error
NEVER = "no.such.function"
SCHEDULED = [each.name for each in fields(ScheduleParams) if each.name != "func"]
NOBODY = 10**15  # a job


def _option(name: str) -> Door:
    return lambda app, value: app.enqueue(handlers.noop, **{f"_{name}": value})


def _named_option(app: Werk, value: Any) -> Awaitable[object]:
    options: dict[str, Any] = {f"_{value}" if isinstance(value, str) else "_": 1}
    return app.enqueue(handlers.noop, **options)


def _params(name: str) -> Door:
    return lambda app, value: app.enqueue_many([EnqueueParams(**{"func": handlers.noop, name: value})])


def _filter(name: str) -> Door:
    return lambda app, value: app.list_jobs(**{name: value})


def _bulk(name: str) -> Door:
    return lambda app, value: app.bulk_requeue_jobs(**{name: value})


def _schedule(name: str) -> Door:
    said = {"interval": 60, "name": "odd"}
    return lambda app, value: app.create_schedule(handlers.noop, **{**said, name: value})


def _rewritten(name: str) -> Door:
    return lambda app, value: app.update_schedule("odd", **{name: value})


def _hook(name: str) -> Door:
    return lambda app, value: getattr(Werk(app.config.dsn), name)(value)


def _of_job(name: str) -> Door:
    return lambda app, value: getattr(app, name)(value)


def _update(name: str) -> Door:
    return lambda app, value: app.update_job(None if name == "key" else NOBODY, **{name: value})


def _app(name: str) -> Door:
    return lambda app, value: Werk(**{"dsn": app.config.dsn, name: value})


def _setting(name: str) -> Door:
    return lambda _, value: WerkConfig(**{name: value})


def _worker(name: str) -> Door:
    return lambda app, value: AsyncWorker(**{"app": app, name: value})


def _arguments_of(function: Any, *without: str) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", *without)]


def _not_a_wait(value: Any) -> Any:
    """It would be waited for; None, for ever."""
    if value is None:
        return 0.01
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return 0.01 if isinstance(seconds, int | float) and seconds > 0.01 else value


def _not_left_out(value: Any) -> Any:
    """The worker of the config would run for ever."""
    return object() if value is None else value


DOORS: dict[str, Door] = {
    **{f"enqueue _{name}": _option(name) for name in (*OPTIONS, "conn")},
    **{f"EnqueueParams {name}": _params(name) for name in ("func", "args", "kwargs", *OPTIONS)},
    "enqueue func": lambda app, value: app.enqueue(value),
    "enqueue an argument": lambda app, value: app.enqueue(handlers.echo, value),
    "enqueue within an argument": lambda app, value: app.enqueue(handlers.echo, {"a": [value]}),
    "enqueue an option": _named_option,
    "enqueue_at": lambda app, value: app.enqueue_at(value, handlers.noop),
    "enqueue_in": lambda app, value: app.enqueue_in(value, handlers.noop),
    "enqueue_many": lambda app, value: app.enqueue_many(value),
    "enqueue_many of it": lambda app, value: app.enqueue_many([EnqueueParams(handlers.noop), value]),
    "enqueue_and_wait": lambda app, value: app.enqueue_and_wait(value, 0),
    "enqueue_and_wait timeout": lambda app, value: app.enqueue_and_wait([], value),
    "enqueue_and_wait enqueued": lambda app, value: app.enqueue_and_wait([], enqueued=value),
    "enqueue_many _conn": lambda app, value: app.enqueue_many([EnqueueParams(handlers.noop)], _conn=value),
    "Retry": lambda app, value: app.enqueue(handlers.noop, _retry=Retry(value)),
    "Retry intervals": lambda app, value: app.enqueue(handlers.noop, _retry=Retry(2, value)),
    "Retry an interval": lambda app, value: app.enqueue(handlers.noop, _retry=Retry(2, [1, value])),
    "Repeat": lambda app, value: app.enqueue(handlers.noop, _repeat=Repeat(value)),
    "Repeat interval": lambda app, value: app.enqueue(handlers.noop, _repeat=Repeat(2, value)),
    "Repeat intervals": lambda app, value: app.enqueue(handlers.noop, _repeat=Repeat(2, intervals=value)),
    "Repeat both": lambda app, value: app.enqueue(handlers.noop, _repeat=Repeat(2, value, [1])),
    "Dependency": lambda app, value: app.enqueue(handlers.noop, _depends_on=[Dependency(value)]),
    "Dependency allow_failure": lambda app, value: app.enqueue(handlers.noop, _depends_on=Dependency(NOBODY, value)),
    "Callback": lambda app, value: app.enqueue(handlers.noop, _on_success=Callback(value)),
    "Callback timeout": lambda app, value: app.enqueue(handlers.noop, _on_failure=Callback(NEVER, value)),
    "apply timeout": lambda app, value: app.apply(NEVER, timeout=_not_a_wait(value)),
    "map inputs": lambda app, value: app.map(NEVER, value, timeout=0.01),
    "map an input": lambda app, value: app.map(NEVER, [value], timeout=0.01),
    "wait_for": lambda app, value: app.wait_for(value, timeout=0.01),
    "wait_for timeout": lambda app, value: app.wait_for(NOBODY, timeout=value),
    **{
        name: _of_job(name)
        for name in (
            "get_job", "get_executions", "get_job_dependencies", "cancel_job", "abort_job", "requeue_job", "touch_job",
            "delete_job", "update_job", "get_worker", "list_worker_jobs", "get_throughput_history", "purge_jobs",
            "get_schedule", "trigger_schedule", "pause_schedule", "resume_schedule", "delete_schedule",
        )
    },
    **{name: _hook(name) for name in ("on_startup", "on_shutdown", "register_before_enqueue")},
    **{f"update_job {name}": _update(name) for name in ("key", "at", "delay", "priority", "meta")},
    **{f"list_jobs {name}": _filter(name) for name in (*Filters.__annotations__, "before", "limit", "offset")},
    **{f"bulk_requeue_jobs {name}": _bulk(name) for name in Filters.__annotations__},
    **{f"create_schedule {name}": _schedule(name) for name in SCHEDULED},
    **{f"update_schedule {name}": _rewritten(name) for name in SCHEDULED},
    "create_schedule func": lambda app, value: app.create_schedule(value, interval=60),
    "Scheduler name": lambda app, value: Scheduler(Werk(app.config.dsn), name=value),
    "Scheduler on_unregistered": lambda app, value: Scheduler(Werk(app.config.dsn), on_unregistered=value),
    "purge_jobs of it": lambda app, value: app.purge_jobs([value]),
    "purge_jobs older": lambda app, value: app.purge_jobs(["complete"], value),
    "get_queue_stats": lambda app, value: app.get_queue_stats(callbacks=value),
    "run a kind": lambda app, value: app.run(worker_type=_not_left_out(value)),
    **{f"Werk {name}": _app(name) for name in _arguments_of(Werk)},
    **{f"WerkConfig {name}": _setting(name) for name in _arguments_of(WerkConfig)},
    **{f"AsyncWorker {name}": _worker(name) for name in _arguments_of(Worker)},
    "configure_logging": lambda _, value: configure_logging(value),
    "configure_logging format": lambda _, value: configure_logging("warning", value),
}  # fmt: skip


class House(NamedTuple):
    """An app, the loop that it lives in, and a look at its tables from outside."""

    runner: asyncio.Runner
    app: Werk
    outside: psycopg.Connection[Any]

    def jobs(self) -> int:
        """Without those that are waited for: who waits no longer does not know whether they were written."""
        ((count,),) = self.outside.execute("select count(*) from job where function <> %s", [NEVER]).fetchall()
        return int(count)


@pytest.fixture
def house(dsn: str, schema: str) -> Iterator[House]:
    with asyncio.Runner() as runner, psycopg.connect(dsn, autocommit=True) as outside:
        app = Werk(dsn, schema=schema)
        runner.run(app.connect())
        outside.execute(f'set search_path to "{schema}"'.encode())
        yield House(runner, app, outside)
        runner.run(app.disconnect())
        outside.execute(f'drop schema "{schema}" cascade'.encode())


def knock(house: House, name: str, value: Any) -> None:
    before = house.jobs()
    try:
        house.runner.run(_answer(DOORS[name], house.app, value))
    except WerkError as error:
        _judge(error)
        waited = name.split(maxsplit=1)[0] in ("apply", "map", "wait_for") and isinstance(error, TimeoutError)
        assert waited or house.jobs() == before, "it was refused, and something was written"


async def _answer(door: Door, app: Werk, value: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        answer = door(app, value)
        if inspect.isawaitable(answer):
            await answer


def _judge(error: WerkError) -> None:
    words = str(error)
    assert 10 < len(words) <= LONGEST, words
    assert "\n" not in words
    assert not words.endswith(".")
    words.encode("utf-8", "backslashreplace")
    assert isinstance(error, TypeError | ValueError | LookupError | TimeoutError | OSError | RuntimeError), words


def test_every_odd_value_has_its_effect_or_is_refused(house: House) -> None:
    """Of all pairs of an argument and a value, so many by chance."""
    pairs = [(name, place) for name in DOORS for place in range(len(ODD))]
    random.Random(SEED).shuffle(pairs)
    print(f"PGWERK_TEST_SEED={SEED}: {min(INPUTS, len(pairs))} of {len(pairs)} pairs")
    for name, place in pairs[:INPUTS]:
        try:
            knock(house, name, ODD[place])
        except BaseException as error:
            error.add_note(f"{name} was given ODD[{place}], seed {SEED}")
            raise


@seed(SEED)
@settings(
    max_examples=max(50, INPUTS // 10), deadline=None, print_blob=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(name=st.sampled_from(sorted(DOORS)), value=GROWN)
def test_every_grown_value_has_its_effect_or_is_refused(house: House, name: str, value: Any) -> None:
    knock(house, name, value)
