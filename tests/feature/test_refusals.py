"""What can never work is refused by `enqueue` itself, in words that lead out, and nothing is written."""

# ruff: noqa: E501 - a table reads best line by line

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import AsyncConnection

from pgwerk import (
    EnqueueParams,
    InvalidOption,
    InvalidType,
    JobNotFound,
    NotConnected,
    NotSerializable,
    Retry,
    SchemaMissing,
    Werk,
)
from tests import handlers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Mailer:
    def send(self) -> None: ...


Call = Callable[[Werk], Awaitable[object]]


def _call(func: Any, *args: Any, **kwargs: Any) -> Call:
    return lambda app: app.enqueue(func, *args, **kwargs)


def _local() -> Callable[[], None]:
    def local() -> None: ...

    return local


REFUSED: dict[str, tuple[Call, type[Exception], type[Exception], str]] = {
    # func
    "a lambda": (_call(lambda: None), InvalidOption, ValueError, "a lambda cannot be found by a worker, got <lambda>; make it a module-level function"),
    "a local function": (_call(_local()), InvalidOption, ValueError, "a local function cannot be found by a worker, got _local.<locals>.local; make it"),
    "a method": (_call(Mailer().send), InvalidOption, ValueError, "a method needs its object, which a worker does not have, got Mailer.send; use a function"),
    "not callable": (_call(42), InvalidType, TypeError, "func must be a module-level function, a class or a static method, or its dotted path, got 42"),
    "an empty path": (_call(""), InvalidOption, ValueError, "func is empty; give a function or its dotted path"),
    "no path": (_call("greet"), InvalidOption, ValueError, "func must be a dotted path like package.module.function, got 'greet'"),
    # args, kwargs
    "too few arguments": (_call(handlers.echo), InvalidType, TypeError, "the arguments do not fit tests.handlers.echo(value: 'Any') -> 'Any': missing a required argument: 'value'"),
    "too many arguments": (_call(handlers.echo, 1, 2), InvalidType, TypeError, "the arguments do not fit tests.handlers.echo"),
    "an unknown argument": (_call(handlers.echo, 1, colour=1), InvalidType, TypeError, "the arguments do not fit tests.handlers.echo"),
    "an unserializable argument": (_call(handlers.echo, b"raw"), NotSerializable, TypeError, "positional argument 1 cannot be stored: "),
    "an unserializable keyword": (_call(handlers.echo, value={1, 2}), NotSerializable, TypeError, "argument 'value' cannot be stored: "),
    "NUL": (_call(handlers.echo, "a\0b"), NotSerializable, TypeError, r"positional argument 1 cannot be stored: Postgres takes no text with a NUL character, got 'a\x00b'"),
    "not a number": (_call(handlers.echo, math.nan), NotSerializable, TypeError, "positional argument 1 cannot be stored: JSON has no word for nan"),
    "half a surrogate pair": (_call(handlers.echo, "\ud800"), NotSerializable, TypeError, "positional argument 1 cannot be stored: str is not valid UTF-8"),
    "more than 64 bits": (_call(handlers.echo, 2**64), NotSerializable, TypeError, "positional argument 1 cannot be stored: integer exceeds 64-bit range"),
    # options
    "an empty queue": (_call(handlers.noop, _queue=""), InvalidOption, ValueError, "_queue must have 1 to 255 characters, got 0"),
    "a long queue": (_call(handlers.noop, _queue="q" * 256), InvalidOption, ValueError, "_queue must have 1 to 255 characters, got 256"),
    "a queue with NUL": (_call(handlers.noop, _queue="a\0"), InvalidOption, ValueError, "_queue must be a text that Postgres can store"),
    "a high priority": (_call(handlers.noop, _priority=32768), InvalidOption, ValueError, "_priority must be from -32768 to 32767, got 32768"),
    "a low priority": (_call(handlers.noop, _priority=-32769), InvalidOption, ValueError, "_priority must be from -32768 to 32767, got -32769"),
    "a broken priority": (_call(handlers.noop, _priority=1.5), InvalidType, TypeError, "_priority must be an int, got 1.5"),
    "delay and at": (_call(handlers.noop, _delay=1, _at=NOON), InvalidOption, ValueError, "_delay and _at are two ways to say the same, got both; give one"),
    "a negative delay": (_call(handlers.noop, _delay=-1), InvalidOption, ValueError, "_delay must be from 0 to "),
    "a delay of no kind": (_call(handlers.noop, _delay="1"), InvalidType, TypeError, "_delay must be seconds (a number or a timedelta), got '1'"),
    "a naive time": (_call(handlers.noop, _at=NOON.replace(tzinfo=None)), InvalidOption, ValueError, "_at must know its time zone, got the naive 2026-06-01T12:00:00; add tzinfo=timezone.utc"),
    "a time of no kind": (_call(handlers.noop, _at=5), InvalidType, TypeError, "_at must be a datetime, got 5"),
    "no attempt": (_call(handlers.noop, _retry=0), InvalidOption, ValueError, "_retry counts the first attempt too and must be at least 1, got 0"),
    "a retry of no kind": (_call(handlers.noop, _retry="3"), InvalidType, TypeError, "_retry must be a number of attempts or a Retry, got '3'"),
    "no timeout": (_call(handlers.noop, _timeout=0), InvalidOption, ValueError, "_timeout must be more than 0 seconds, got 0"),
    "a negative timeout": (_call(handlers.noop, _timeout=-1), InvalidOption, ValueError, "_timeout must be "),
    "an empty key": (_call(handlers.noop, _key=""), InvalidOption, ValueError, "_key must have 1 to 255 characters, got 0"),
    "a long key": (_call(handlers.noop, _key="k" * 256), InvalidOption, ValueError, "_key must have 1 to 255 characters, got 256"),
    "meta of no kind": (_call(handlers.noop, _meta=["a"]), InvalidType, TypeError, "_meta must be a dict, got ['a']"),
    "unserializable meta": (_call(handlers.noop, _meta={"a": object}), NotSerializable, TypeError, "_meta cannot be stored: "),
    "no heartbeat": (_call(handlers.noop, _heartbeat=0), InvalidOption, ValueError, "_heartbeat must be more than 0 seconds, got 0"),
    "an empty group": (_call(handlers.noop, _group=""), InvalidOption, ValueError, "_group must have 1 to 255 characters, got 0"),
    "a long group": (_call(handlers.noop, _group="g" * 256), InvalidOption, ValueError, "_group must have 1 to 255 characters, got 256"),
    "a negative result_ttl": (_call(handlers.noop, _result_ttl=-1), InvalidOption, ValueError, "_result_ttl must be from 0 to "),
    "a negative failure_ttl": (_call(handlers.noop, _failure_ttl=-1), InvalidOption, ValueError, "_failure_ttl must be from 0 to "),
    "another failure_mode": (_call(handlers.noop, _failure_mode="drop"), InvalidOption, ValueError, "_failure_mode must be hold or delete, got 'drop'"),
    "a lambda as callback": (_call(handlers.noop, _on_success=lambda _: None), InvalidOption, ValueError, "a lambda cannot be found by a worker, got "),
    "a callback without ctx": (_call(handlers.noop, _on_failure=handlers.noop), InvalidType, TypeError, "_on_failure is called with ctx alone, which tests.handlers.noop() -> 'None' does not take"),
    "an empty callback": (_call(handlers.noop, _on_stopped=""), InvalidOption, ValueError, "_on_stopped is empty; give a function or its dotted path"),
    "a repeat of no kind": (_call(handlers.noop, _repeat=5), InvalidType, TypeError, "_repeat must be a Repeat, like Repeat(times=5, interval=60), got 5"),
    "a malformed dependency": (_call(handlers.noop, _depends_on="first"), InvalidOption, ValueError, "_depends_on names a job by its Job, its id, or in enqueue_many by "),
    "an unknown dependency": (_call(handlers.noop, _depends_on=10**9), JobNotFound, LookupError, "_depends_on names job 1000000000, which does not exist; nothing was enqueued"),
    "a dependency of a taken key": (_call(handlers.noop, _depends_on=[None]), InvalidOption, ValueError, "_depends_on got None, which enqueue returns for a taken key"),
    "no ttl": (_call(handlers.noop, _ttl=0), InvalidOption, ValueError, "_ttl must be more than 0 seconds, got 0"),
    "a negative ttl": (_call(handlers.noop, _ttl=timedelta(seconds=-1)), InvalidOption, ValueError, "_ttl must be "),
    "an unknown option": (_call(handlers.noop, _prioritty=1), InvalidOption, ValueError, "_prioritty is no option of a job; did you mean _priority? (a handler's own arguments start without _)"),
    # _conn
    "no connection": (_call(handlers.noop, _conn="postgresql:///"), InvalidType, TypeError, "_conn must be a psycopg AsyncConnection, got 'postgresql:///'"),
}  # fmt: skip


@pytest.fixture(autouse=True)
async def nothing_is_written(app: Werk, query: Any) -> AsyncIterator[None]:
    yield
    assert query("select count(*) from job") == [(0,)]


@pytest.mark.parametrize("name", REFUSED)
async def test_enqueue_refuses(app: Werk, name: str) -> None:
    call, ours, builtin, words = REFUSED[name]
    with pytest.raises(ours) as caught:
        await call(app)
    assert str(caught.value).startswith(words)
    assert isinstance(caught.value, builtin)
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize("max_attempts", [0, -1])
def test_a_retry_refuses_itself(max_attempts: int, query: Any) -> None:
    with pytest.raises(InvalidOption, match=r"Retry\.max counts the first attempt too and must be at least 1"):
        Retry(max_attempts)


async def test_a_bulk_with_one_bad_spec_writes_nothing(app: Werk) -> None:
    specs = [EnqueueParams(handlers.noop), EnqueueParams(handlers.noop, queue=""), EnqueueParams(handlers.noop)]
    with pytest.raises(InvalidOption, match="_queue must have 1 to 255 characters"):
        await app.enqueue_many(specs)


async def test_a_bulk_with_something_else_in_it_writes_nothing(app: Werk) -> None:
    with pytest.raises(InvalidType, match="a job to enqueue is an EnqueueParams, got <function noop"):
        await app.enqueue_many([EnqueueParams(handlers.noop), handlers.noop])  # type: ignore[list-item]


@pytest.mark.parametrize("option", ["_nope", "_conn"])
async def test_apply_and_map_refuse_what_is_no_option(app: Werk, option: str) -> None:
    options: dict[str, Any] = {option: 1}
    with pytest.raises(InvalidOption, match=f"{option} is no option"):
        await app.apply(handlers.noop, timeout=5, **options)
    with pytest.raises(InvalidOption, match=f"{option} is no option"):
        await app.map(handlers.echo, [[1]], timeout=5, **options)


@pytest.mark.parametrize("value", [1, "text", None, {1, 2}])
async def test_map_refuses_inputs_of_no_kind(app: Werk, value: Any) -> None:
    with pytest.raises(InvalidType, match="an input of map is a dict of keywords or a list of positional arguments"):
        await app.map(handlers.echo, [[1], value], timeout=5)


async def test_map_refuses_one_key_for_many_jobs(app: Werk) -> None:
    """The second would find it taken, after the first had been written."""
    with pytest.raises(InvalidOption, match="_key"):
        await app.map(handlers.echo, [[1], [2]], _key="one", timeout=5)


async def test_at_and_delay_are_refused_beside_enqueue_in(app: Werk) -> None:
    with pytest.raises(InvalidOption, match="got both"):
        await app.enqueue_in(1, handlers.noop, _at=NOON)
    with pytest.raises(InvalidOption, match="got both"):
        await app.enqueue_at(NOON, handlers.noop, _delay=1)


async def test_an_app_that_is_not_connected_says_how_to_connect(app: Werk, dsn: str, schema: str) -> None:
    with pytest.raises(NotConnected, match=r"this Werk is not connected; use `async with app:`") as caught:
        await Werk(dsn, schema=schema).enqueue(handlers.noop)
    assert isinstance(caught.value, RuntimeError)


# _conn


async def test_a_closed_connection_is_refused(app: Werk, dsn: str) -> None:
    connection = await AsyncConnection.connect(dsn)
    await connection.close()
    with pytest.raises(InvalidOption, match=r"^_conn is closed; give an open connection$"):
        await app.enqueue(handlers.noop, _conn=connection)


async def test_a_synchronous_connection_is_refused(app: Werk, dsn: str) -> None:
    with (
        psycopg.connect(dsn) as connection,
        pytest.raises(InvalidType, match="_conn must be a psycopg AsyncConnection"),
    ):
        await app.enqueue(handlers.noop, _conn=connection)  # type: ignore[arg-type]


async def test_a_connection_to_a_database_without_the_schema_is_refused(app: Werk, own_dsn: str, schema: str) -> None:
    async with await AsyncConnection.connect(own_dsn) as connection:
        with pytest.raises(SchemaMissing, match=schema):
            await app.enqueue(handlers.noop, _conn=connection)


async def test_that_refusal_leaves_the_callers_transaction_alone(app: Werk, own_dsn: str) -> None:
    async with await AsyncConnection.connect(own_dsn) as connection:
        await connection.execute("create table theirs as select 1 as n")
        with pytest.raises(SchemaMissing):
            await app.enqueue(handlers.noop, _conn=connection)
        await connection.commit()
        assert await (await connection.execute("select n from theirs")).fetchone() == (1,)


async def test_a_bulk_refuses_a_closed_connection_too(app: Werk, dsn: str) -> None:
    connection = await AsyncConnection.connect(dsn)
    await connection.close()
    with pytest.raises(InvalidOption, match="_conn is closed"):
        await app.enqueue_many([EnqueueParams(handlers.noop)], _conn=connection)


@pytest.mark.parametrize("params", [[], [EnqueueParams(handlers.noop)]])
async def test_a_bulk_refuses_what_is_no_connection(app: Werk, params: list[EnqueueParams]) -> None:
    with pytest.raises(InvalidType, match="_conn must be a psycopg AsyncConnection"):
        await app.enqueue_many(params, _conn=object())  # type: ignore[arg-type]
