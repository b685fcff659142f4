"""Every option of a job: what is taken, and what is refused before anything is written."""

# ruff: noqa: E501 - a table reads best line by line

from __future__ import annotations

import datetime as dt
import enum
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from pgwerk import (
    Callback,
    Dependency,
    EnqueueParams,
    FailureMode,
    InvalidOption,
    InvalidType,
    JSONSerializer,
    NotSerializable,
    Repeat,
    Retry,
    serializers,
    specifying,
)
from pgwerk.config import LONGEST_SECONDS
from pgwerk.errors import WerkError
from pgwerk.params import OPTIONS, split_options
from pgwerk.specifying import Spec, specify, specify_all, specify_runs
from pgwerk.typed import TypedJSONSerializer
from tests import handlers

PATH = "somewhere.job"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Level(enum.IntEnum):
    HIGH = 10


class Unserializable:
    def __repr__(self) -> str:
        return "<unserializable>"


def _spec(*args: Any, func: Any = PATH, kwargs: dict[str, Any] | None = None, **options: Any) -> Spec:
    return specify(EnqueueParams(func, args, kwargs or {}, **options), JSONSerializer())


def _column(name: str, option: str, value: Any) -> Any:
    return orjson.loads(orjson.dumps(_spec(**{option: value}).columns.get(name)))


def test_what_nobody_says() -> None:
    assert _spec().columns == {"function": PATH, "queue": "default", "priority": 0, "max_attempts": 1}
    assert orjson.loads(_spec().text) == {"args": [], "kwargs": {}}


TAKEN = [
    ("queue", "queue", "mails", "mails"),
    ("queue", "queue", "почта 日本 🎈", "почта 日本 🎈"),
    ("queue", "queue", " ", " "),
    ("queue", "queue", "q" * 255, "q" * 255),
    ("queue", "queue", "日" * 255, "日" * 255),
    ("priority", "priority", 32767, 32767),
    ("priority", "priority", -32768, -32768),
    ("priority", "priority", Level.HIGH, 10),
    ("delay", "delay", 0, 0.0),
    ("delay", "delay", 30, 30.0),
    ("delay", "delay", 0.25, 0.25),
    ("delay", "delay", timedelta(minutes=2), 120.0),
    ("delay", "delay", LONGEST_SECONDS, float(LONGEST_SECONDS)),
    ("at", "at", NOON, "2026-06-01T12:00:00+00:00"),
    ("at", "at", NOON.replace(tzinfo=timezone(timedelta(hours=-3, minutes=-30))), "2026-06-01T15:30:00+00:00"),
    ("at", "at", datetime(1970, 1, 1, tzinfo=UTC), "1970-01-01T00:00:00+00:00"),
    ("max_attempts", "retry", 3, 3),
    ("max_attempts", "retry", 2**31 - 1, 2**31 - 1),
    ("max_attempts", "retry", Retry(4), 4),
    ("retry_intervals", "retry", 3, None),
    ("retry_intervals", "retry", Retry(4), [0.0]),
    ("retry_intervals", "retry", Retry(4, 10), [10.0]),
    ("retry_intervals", "retry", Retry(max=4, intervals=[10, 60, 300]), [10.0, 60.0, 300.0]),
    ("retry_intervals", "retry", Retry(2, (timedelta(minutes=1),)), [60.0]),
    ("timeout_secs", "timeout", 120, 120.0),
    ("timeout_secs", "timeout", 0.001, 0.001),
    ("timeout_secs", "timeout", timedelta(hours=1), 3600.0),
    ("key", "key", "invoice:42", "invoice:42"),
    ("key", "key", "k" * 255, "k" * 255),
    ("meta", "meta", {"source": "api", "n": [1, None]}, {"source": "api", "n": [1, None]}),
    ("meta", "meta", {}, {}),
    ("group_key", "group", "user:99", "user:99"),
    ("heartbeat_secs", "heartbeat", 30, 30.0),
    ("result_ttl", "result_ttl", 3600, 3600.0),
    ("result_ttl", "result_ttl", 0, 0.0),
    ("failure_ttl", "failure_ttl", timedelta(days=1), 86400.0),
    ("failure_mode", "failure_mode", "hold", None),
    ("failure_mode", "failure_mode", FailureMode.Delete, "delete"),
    ("failure_mode", "failure_mode", "delete", "delete"),
    ("on_success", "on_success", handlers.remember, {"function": "tests.handlers.remember", "timeout": None}),
    ("on_failure", "on_failure", "a.b", {"function": "a.b", "timeout": None}),
    ("on_stopped", "on_stopped", Callback(handlers.remember, 10), {"function": "tests.handlers.remember", "timeout": 10.0}),
    ("repeat_remaining", "repeat", Repeat(times=5, interval=3600), 5),
    ("repeat_intervals", "repeat", Repeat(times=5, interval=3600), [3600.0]),
    ("repeat_intervals", "repeat", Repeat(times=3, intervals=[60, 300, timedelta(hours=1)]), [60.0, 300.0, 3600.0]),
    ("repeat_intervals", "repeat", Repeat(1), [0.0]),
    ("depends_on", "depends_on", 7, [{"on_id": 7, "on_place": None, "allow_failure": False}]),
    ("depends_on", "depends_on", [], None),
    ("depends_on", "depends_on", ["7", Dependency(8, allow_failure=True)], [
        {"on_id": 7, "on_place": None, "allow_failure": False}, {"on_id": 8, "on_place": None, "allow_failure": True},
    ]),
    ("depends_on", "depends_on", [Dependency(7, allow_failure=True), 7], [
        {"on_id": 7, "on_place": None, "allow_failure": False},
    ]),
    ("ttl", "ttl", 60, 60.0),
    ("ttl", "ttl", timedelta(days=1), 86400.0),
]  # fmt: skip


@pytest.mark.parametrize(("column", "option", "value", "written"), TAKEN)
def test_what_is_taken_is_written_as_it_is_meant(column: str, option: str, value: Any, written: Any) -> None:
    assert _column(column, option, value) == written


def test_the_tables_know_every_option() -> None:
    assert {option for _, option, *_ in TAKEN} == set(OPTIONS)
    assert {next(iter(options)) for options, *_ in REFUSED} == set(OPTIONS)


SECONDS = "must be seconds (a number or a timedelta)"
CENTURY = f"must be from 0 to {LONGEST_SECONDS} seconds"
NAMES = "_depends_on names a job by its Job, its id, or in enqueue_many by the EnqueueParams of another job of the same call"

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"queue": ""}, ValueError, "_queue must have 1 to 255 characters, got 0"),
    ({"queue": "q" * 256}, ValueError, "_queue must have 1 to 255 characters, got 256"),
    ({"queue": None}, TypeError, "_queue must be a text, got None"),
    ({"queue": 7}, TypeError, "_queue must be a text, got 7"),
    ({"queue": ["a"]}, TypeError, "_queue must be a text, got ['a']"),
    ({"queue": "a\0b"}, ValueError, r"_queue must be a text that Postgres can store, got 'a\x00b'"),
    ({"queue": "\ud800"}, ValueError, r"_queue must be a text that Postgres can store, got '\ud800'"),
    ({"priority": 32768}, ValueError, "_priority must be from -32768 to 32767, got 32768"),
    ({"priority": -32769}, ValueError, "_priority must be from -32768 to 32767, got -32769"),
    ({"priority": 10**30}, ValueError, "_priority must be from -32768 to 32767, got 1000000000000000000000000000000"),
    ({"priority": 1.0}, TypeError, "_priority must be an int, got 1.0"),
    ({"priority": "1"}, TypeError, "_priority must be an int, got '1'"),
    ({"priority": True}, TypeError, "_priority must be an int, got True"),
    ({"priority": None}, TypeError, "_priority must be an int, got None"),
    ({"delay": -1}, ValueError, f"_delay {CENTURY}, got -1"),
    ({"delay": -0.001}, ValueError, f"_delay {CENTURY}, got -0.001"),
    ({"delay": timedelta(seconds=-5)}, ValueError, f"_delay {CENTURY}, got -5.0"),
    ({"delay": math.nan}, ValueError, f"_delay {CENTURY}, got nan"),
    ({"delay": math.inf}, ValueError, f"_delay {CENTURY}, got inf"),
    ({"delay": LONGEST_SECONDS + 1}, ValueError, f"_delay {CENTURY}, got {LONGEST_SECONDS + 1}"),
    ({"delay": 10**400}, ValueError, f"_delay {CENTURY}, got 1000"),
    ({"delay": "30"}, TypeError, f"_delay {SECONDS}, got '30'"),
    ({"delay": True}, TypeError, f"_delay {SECONDS}, got True"),
    ({"delay": NOON}, TypeError, f"_delay {SECONDS}, got datetime.datetime(2026, 6, 1"),
    ({"delay": 1, "at": NOON}, ValueError, "_delay and _at are two ways to say the same, got both; give one"),
    ({"at": datetime(2026, 6, 1)}, ValueError, "_at must know its time zone, got the naive 2026-06-01T00:00:00; add tzinfo=timezone.utc"),  # noqa: DTZ001
    ({"at": dt.date(2026, 6, 1)}, TypeError, "_at must be a datetime, got datetime.date(2026, 6, 1)"),
    ({"at": 1780000000}, TypeError, "_at must be a datetime, got 1780000000"),
    ({"at": "2026-06-01"}, TypeError, "_at must be a datetime, got '2026-06-01'"),
    ({"retry": 0}, ValueError, "_retry counts the first attempt too and must be at least 1, got 0"),
    ({"retry": -1}, ValueError, "_retry counts the first attempt too and must be at least 1, got -1"),
    ({"retry": 2**31}, ValueError, "_retry must be at most 2147483647, got 2147483648"),
    ({"retry": 1.5}, TypeError, "_retry must be a number of attempts or a Retry, got 1.5"),
    ({"retry": True}, TypeError, "_retry must be a number of attempts or a Retry, got True"),
    ({"retry": None}, TypeError, "_retry must be a number of attempts or a Retry, got None"),
    ({"retry": [1, 2]}, TypeError, "_retry must be a number of attempts or a Retry, got [1, 2]"),
    ({"timeout": 0}, ValueError, "_timeout must be more than 0 seconds, got 0"),
    ({"timeout": -1}, ValueError, "_timeout must be more than 0 seconds, got -1"),
    ({"timeout": timedelta(0)}, ValueError, "_timeout must be more than 0 seconds, got "),
    ({"timeout": math.inf}, ValueError, "_timeout must be "),
    ({"timeout": "1"}, TypeError, f"_timeout {SECONDS}, got '1'"),
    ({"key": ""}, ValueError, "_key must have 1 to 255 characters, got 0"),
    ({"key": "k" * 256}, ValueError, "_key must have 1 to 255 characters, got 256"),
    ({"key": 42}, TypeError, "_key must be a text, got 42"),
    ({"key": "a\0"}, ValueError, r"_key must be a text that Postgres can store, got 'a\x00'"),
    ({"meta": []}, TypeError, "_meta must be a dict, got []"),
    ({"meta": "{}"}, TypeError, "_meta must be a dict, got '{}'"),
    ({"meta": {"a": Unserializable()}}, TypeError, "_meta cannot be stored: "),
    ({"meta": {"a": "\0"}}, TypeError, r"_meta cannot be stored: Postgres takes no text with a NUL character, got '\x00'"),
    ({"meta": {1: 2}}, TypeError, "_meta cannot be stored: dict key must be str"),
    ({"meta": {"a": math.nan}}, TypeError, "_meta cannot be stored: JSON has no word for nan"),
    ({"heartbeat": 0}, ValueError, "_heartbeat must be more than 0 seconds, got 0"),
    ({"heartbeat": "5"}, TypeError, f"_heartbeat {SECONDS}, got '5'"),
    ({"group": ""}, ValueError, "_group must have 1 to 255 characters, got 0"),
    ({"group": "g" * 256}, ValueError, "_group must have 1 to 255 characters, got 256"),
    ({"group": 7}, TypeError, "_group must be a text, got 7"),
    ({"result_ttl": -1}, ValueError, f"_result_ttl {CENTURY}, got -1"),
    ({"failure_ttl": -0.5}, ValueError, f"_failure_ttl {CENTURY}, got -0.5"),
    ({"failure_mode": "drop"}, ValueError, "_failure_mode must be hold or delete, got 'drop'"),
    ({"failure_mode": None}, ValueError, "_failure_mode must be hold or delete, got None"),
    ({"on_success": ""}, ValueError, "_on_success is empty; give a function or its dotted path"),
    ({"on_success": "nodots"}, ValueError, "_on_success must be a dotted path like package.module.function, got 'nodots'"),
    ({"on_success": 7}, TypeError, "_on_success must be a module-level function, a class or a static method, or its dotted path, got 7"),
    ({"on_failure": lambda _: None}, ValueError, "a lambda cannot be found by a worker, got <lambda>; make it a module-level function"),
    ({"on_failure": Callback("nodots")}, ValueError, "_on_failure must be a dotted path like package.module.function, got 'nodots'"),
    ({"on_stopped": handlers.noop}, TypeError, "_on_stopped is called with ctx alone, which tests.handlers.noop() -> 'None' does not take"),
    ({"repeat": 5}, TypeError, "_repeat must be a Repeat, like Repeat(times=5, interval=60), got 5"),
    ({"depends_on": "x7"}, ValueError, f"{NAMES}, got 'x7'"),
    ({"depends_on": 0}, ValueError, f"{NAMES}, got 0"),
    ({"depends_on": [1, 1.5]}, ValueError, f"{NAMES}, got 1.5"),
    ({"depends_on": True}, ValueError, f"{NAMES}, got True"),
    ({"depends_on": [[7]]}, ValueError, f"{NAMES}, got [7]"),
    ({"depends_on": 2**63}, ValueError, f"{NAMES}, got 9223372036854775808"),
    ({"depends_on": Dependency(None)}, ValueError, "_depends_on got None, which enqueue returns for a taken key; use the job that has the key"),  # type: ignore[arg-type]
    ({"depends_on": [None]}, ValueError, "_depends_on got None, which enqueue returns for a taken key; use the job that has the key"),
    ({"depends_on": EnqueueParams("a.b")}, ValueError, f"{NAMES}, got EnqueueParams(queue='default', "),
    ({"ttl": 0}, ValueError, "_ttl must be more than 0 seconds, got 0"),
    ({"ttl": -60}, ValueError, "_ttl must be more than 0 seconds, got -60"),
    ({"ttl": "60"}, TypeError, f"_ttl {SECONDS}, got '60'"),
    ({"ttl": False}, TypeError, f"_ttl {SECONDS}, got False"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "kind", "words"), REFUSED, ids=lambda value: re.sub(" at 0x.*", "", f"{value!r:.40}")
)
def test_what_is_refused_and_in_which_words(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(WerkError) as caught:
        _spec(**options)
    assert str(caught.value).startswith(words)
    assert isinstance(caught.value, kind)


@pytest.mark.parametrize("at", [datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))])  # fmt: skip
def test_a_time_outside_of_pythons_calendar_is_refused(at: datetime) -> None:
    """In UTC it lies in the year 10000, or before the year 1: it could be written, and never be read again."""
    with pytest.raises(InvalidOption, match="_at"):
        _spec(at=at)


RETRIES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"max": 0}, ValueError, "Retry.max counts the first attempt too and must be at least 1, got 0"),
    ({"max": "3"}, TypeError, "Retry.max must be a number of attempts"),
    ({"max": 3, "intervals": -1}, ValueError, f"Retry.intervals {CENTURY}, got -1"),
    ({"max": 3, "intervals": [1, -1]}, ValueError, f"Retry.intervals {CENTURY}, got -1"),
    ({"max": 3, "intervals": []}, ValueError, "Retry.intervals is empty; give seconds, or leave it out for no delay"),
    ({"max": 3, "intervals": "10"}, TypeError, f"Retry.intervals {SECONDS}, got '10'"),
    ({"max": 3, "intervals": [None]}, TypeError, f"Retry.intervals {SECONDS}, got None"),
    ({"max": 3, "intervals": math.nan}, ValueError, f"Retry.intervals {CENTURY}, got nan"),
]


@pytest.mark.parametrize(("values", "kind", "words"), RETRIES)
def test_a_retry_that_can_never_work(values: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(WerkError) as caught:
        Retry(**values)
    assert str(caught.value).startswith(words)
    assert isinstance(caught.value, kind)


REPEATS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"times": 0}, ValueError, "Repeat.times counts the runs after the first and must be from 1 to 2147483647, got 0"),
    ({"times": "3"}, TypeError, "Repeat.times must be an int, got '3'"),
    ({"times": True}, TypeError, "Repeat.times must be an int, got True"),
    ({"times": 1, "interval": -1}, ValueError, f"Repeat.interval {CENTURY}, got -1"),
    ({"times": 1, "intervals": [1, -1]}, ValueError, f"Repeat.intervals {CENTURY}, got -1"),
    (
        {"times": 1, "intervals": []},
        ValueError,
        "Repeat.intervals is empty; give seconds, or leave it out for no delay",
    ),
    (
        {"times": 1, "interval": 1, "intervals": [1]},
        ValueError,
        "Repeat.interval and Repeat.intervals are two ways to say the same, got both; give one",
    ),
]


@pytest.mark.parametrize(("values", "kind", "words"), REPEATS)
def test_a_repeat_that_can_never_work(values: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(WerkError) as caught:
        Repeat(**values)
    assert str(caught.value).startswith(words)
    assert isinstance(caught.value, kind)


def test_a_callback_takes_some_time() -> None:
    with pytest.raises(InvalidOption, match=r"Callback\.timeout must be more than 0 seconds, got 0"):
        Callback(handlers.remember, timeout=0)


# Arguments.


def test_arguments_are_bound_at_once() -> None:
    with pytest.raises(InvalidType) as caught:
        _spec(func=handlers.square)
    assert str(caught.value) == (
        "the arguments do not fit tests.handlers.square(number: 'int') -> 'int': missing a required argument: 'number'"
    )


def test_a_context_is_left_out() -> None:
    assert _spec(3, func=handlers.fail_until).payload == {"args": [3], "kwargs": {}}


def test_a_dotted_path_is_taken_with_any_arguments() -> None:
    assert _spec(1, 2, kwargs={"a": 3}).payload == {"args": [1, 2], "kwargs": {"a": 3}}


def test_arguments_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, and among many; many that are small may be large together."""
    monkeypatch.setattr(serializers, "LARGEST", 100)
    monkeypatch.setattr(specifying, "LARGEST", 100)
    words = "arguments may take .* MiB as JSON, got .* MiB; keep them elsewhere, and pass on where they are"
    large, small = EnqueueParams(handlers.echo, ["x" * 100]), EnqueueParams(handlers.echo, [1])
    with pytest.raises(NotSerializable, match=words):
        specify_all([large], JSONSerializer())
    with pytest.raises(NotSerializable, match=words):
        specify_runs([small, large], JSONSerializer())
    (run,) = specify_runs([small] * 10, JSONSerializer())
    assert len(run.text) > 100


ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((1, Unserializable()), {}, "positional argument 2 cannot be stored: "),
    ((), {"picture": b"raw"}, "argument 'picture' cannot be stored: "),
    ((1,), {"a": 1, "b": {"deep": [math.nan]}}, "argument 'b' cannot be stored: JSON has no word for nan"),
    (
        ("a\0b",),
        {},
        r"positional argument 1 cannot be stored: Postgres takes no text with a NUL character, got 'a\x00b'",
    ),
    ((), {"name": "\ud800"}, "argument 'name' cannot be stored: str is not valid UTF-8: surrogates not allowed"),
    ((2**64,), {}, "positional argument 1 cannot be stored: integer exceeds 64-bit range"),
]


@pytest.mark.parametrize(("args", "kwargs", "words"), ARGUMENTS)
def test_an_argument_that_cannot_be_stored_is_named(args: tuple[Any, ...], kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        _spec(*args, kwargs=kwargs)
    assert str(caught.value).startswith(words)


def test_an_unserializable_argument_is_shown() -> None:
    with pytest.raises(NotSerializable, match="got <unserializable>"):
        _spec(Unserializable())


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [("abc", {}), (5, {}), (None, {}), ((), [1]), ((), "ab"), ((), None), ((), {1: 2}), ({"a": 1}, {})],
)
def test_arguments_of_the_wrong_kind_are_refused(args: Any, kwargs: Any) -> None:
    with pytest.raises(InvalidType, match=r"args|kwargs"):
        specify(EnqueueParams(PATH, args, kwargs), JSONSerializer())


@pytest.mark.parametrize("params", [None, PATH, {"func": PATH}, handlers.noop, (handlers.noop, ())])
def test_a_bulk_takes_nothing_but_params(params: Any) -> None:
    with pytest.raises(InvalidType, match="a job to enqueue is an EnqueueParams, got "):
        specify(params, JSONSerializer())


# Names of options.


def test_options_are_told_from_arguments() -> None:
    given = {"to": "a@b", "_queue": "mails", "queue": "theirs", "_key": "k"}
    assert split_options(given) == ({"to": "a@b", "queue": "theirs"}, {"queue": "mails", "key": "k"})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("_prioritty", "_priority"),
        ("_que", "_queue"),
        ("_retries", "_retry"),
        ("_dealy", "_delay"),
        ("_time_out", "_timeout"),
        ("_tll", "_ttl"),
        ("_kye", "_key"),
        ("_metadata", "_meta"),
        ("_con", "_conn"),
        ("_hearbeat", "_heartbeat"),
        ("_grup", "_group"),
        ("_resultttl", "_result_ttl"),
        ("_failure_mod", "_failure_mode"),
        ("_onsuccess", "_on_success"),
        ("_repeats", "_repeat"),
        ("_depends", "_depends_on"),
        ("_att", "_at"),
        ("__queue", "_queue"),
    ],
)
def test_an_unknown_option_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        split_options({name: 1})
    assert str(caught.value) == (
        f"{name} is no option of a job; did you mean {nearest}? (a handler's own arguments start without _)"
    )
    assert isinstance(caught.value, ValueError)


@given(st.text(min_size=1).map(lambda text: f"_{text}").filter(lambda name: name[1:] not in OPTIONS))
def test_whatever_is_no_option_is_refused(name: str) -> None:
    with pytest.raises(InvalidOption):
        split_options({name: 1})


def test_an_option_is_not_suggested_to_itself() -> None:
    """`_conn` is an option of enqueue, and none of apply and map."""
    with pytest.raises(InvalidOption) as caught:
        split_options({"_conn": None})
    assert "did you mean _conn" not in str(caught.value)


# Properties.


@given(st.floats() | st.integers())
def test_seconds_are_taken_whole_or_refused(seconds: float) -> None:
    is_good = math.isfinite(seconds) and 0 <= seconds <= LONGEST_SECONDS if abs(seconds) < 1e300 else False
    try:
        taken = _spec(delay=seconds).columns["delay"]
    except InvalidOption:
        assert not is_good
    else:
        assert is_good
        assert taken == seconds


@given(st.integers())
def test_a_priority_is_a_smallint(priority: int) -> None:
    try:
        taken = _spec(priority=priority).columns["priority"]
    except InvalidOption:
        assert not -(2**15) <= priority < 2**15
    else:
        assert taken == priority


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_a_queue_is_any_text_that_can_be_stored(name: str) -> None:
    is_good = 1 <= len(name) <= 255 and "\0" not in name and not any("\ud800" <= c <= "\udfff" for c in name)
    try:
        taken = _spec(queue=name).columns["queue"]
    except InvalidOption:
        assert not is_good
    else:
        assert is_good
        assert taken == name


# Jobs in runs.


class Marking(JSONSerializer):
    """A user's own: what the one beneath makes of a list is not what this one makes of each."""

    def dumps(self, value: Any) -> bytes:
        return super().dumps({"marked": value})


META, THRICE = {"a": 1}, Retry(3, 5)
ALIKE = {
    "one": [EnqueueParams(PATH, (1,))],
    "plain": [EnqueueParams(PATH, (number,)) for number in range(3)],
    "in turns": [EnqueueParams(PATH, (number,), group=f"g{number // 2 % 2}") for number in range(7)],
    "other functions": [EnqueueParams(path, (1,), {"a": "b"}) for path in (PATH, PATH, "m.f", PATH)],
    "nothing": [EnqueueParams(PATH, (value,)) for value in (1, None, "null", "e+")],
    "large numbers": [EnqueueParams(PATH, (value,)) for value in (1.5, 1e16, -1e300)],
    "the same options": [EnqueueParams(PATH, (1,), meta=META, retry=retry) for retry in (THRICE, THRICE, 2)],
    "meta": [EnqueueParams(PATH, meta={"a": 1}), EnqueueParams(PATH, meta={"a": 1}), EnqueueParams(PATH)],
    "texts": [EnqueueParams(PATH, ("], [",), {"b": text}) for text in ('"', "\\", "日本")],
}


@pytest.mark.parametrize("serializer", [JSONSerializer(), Marking(), TypedJSONSerializer()])
@pytest.mark.parametrize("name", ALIKE)
def test_jobs_in_runs_are_what_they_are_one_by_one(name: str, serializer: JSONSerializer) -> None:
    specs, runs = specify_all(ALIKE[name], serializer), specify_runs(ALIKE[name], serializer)
    assert [payload for run in runs for payload in run.payloads] == [spec.payload for spec in specs]
    assert b",".join(run.text for run in runs) == b",".join(spec.text for spec in specs)
    said = [(run.columns, run.meta) for run in runs for _ in run.payloads]
    assert [_without_fragments(*each) for each in said] == [_without_fragments(s.columns, s.meta) for s in specs]


def _without_fragments(columns: Mapping[str, Any], meta: object) -> object:
    return orjson.loads(orjson.dumps(columns)), meta


def test_a_run_ends_where_jobs_differ() -> None:
    found = {
        name: [len(run.payloads) for run in specify_runs(alike, JSONSerializer())] for name, alike in ALIKE.items()
    }
    assert found == {
        "one": [1], "plain": [3], "in turns": [2, 2, 2, 1], "other functions": [2, 1, 1], "nothing": [4],
        "large numbers": [3], "the same options": [2, 1], "meta": [1, 1, 1], "texts": [3],
    }  # fmt: skip


@pytest.mark.parametrize(("args", "kwargs", "words"), ARGUMENTS)
def test_an_argument_that_cannot_be_stored_is_named_in_a_run(
    args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(NotSerializable) as caught:
        specify_runs([EnqueueParams(PATH, (1,)), EnqueueParams(PATH, args, kwargs)], JSONSerializer())
    assert str(caught.value).startswith(words)


def test_the_payloads_of_a_run_are_copies() -> None:
    params = EnqueueParams(PATH, [1], {"a": 2})
    (run,) = specify_runs([params], JSONSerializer())
    params.args.append(3)  # type: ignore[attr-defined]
    params.kwargs["b"] = 4  # type: ignore[index]
    assert run.payloads == [{"args": [1], "kwargs": {"a": 2}}]
