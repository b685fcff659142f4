"""Schedules: what they enqueue, once a tick, whoever fires them and whatever the clock does."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgwerk import (
    AsyncWorker,
    Callback,
    EnqueueParams,
    InvalidOption,
    InvalidType,
    JSONSerializer,
    Missed,
    NotSerializable,
    Overlap,
    PickleSerializer,
    Repeat,
    Retry,
    ScheduleExists,
    ScheduleNotFound,
    Scheduler,
    Serializer,
    ServerUnreachable,
    Werk,
    events,
)
from tests import handlers
from tests.feature.test_what_follows import drain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Clock = Callable[[str], datetime]
    Ticks = Callable[[], list[str]]

MINUTELY = {"name": "minutely", "cron": "* * * * *"}


@pytest.fixture
def clock(app: Werk, query: Any) -> Clock:
    """Sets the time that schedules go by."""
    query("create table moment (at timestamptz not null)")
    query("insert into moment values ('2026-11-25 12:00:30Z')")
    query("create or replace function clock() returns timestamptz language sql stable return (select at from moment)")

    def set_to(text: str) -> datetime:
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        query("update moment set at = %s", moment)
        return moment

    return set_to


@pytest.fixture
def fired(query: Any) -> Ticks:
    """The ticks of the jobs there are, in their order."""
    return lambda: [key[-25:-9] for (key,) in query("select key from job where schedule_name is not null order by id")]


@pytest.fixture
async def scheduler(app: Werk, clock: Clock) -> Any:
    scheduler = Scheduler(app)
    yield scheduler
    scheduler.close()


async def test_a_tick_is_a_job_that_says_which(app: Werk, clock: Clock, scheduler: Scheduler) -> None:
    made = await app.create_schedule(handlers.echo, args=[1], queue="reports", priority=3, **MINUTELY)
    assert (made.next_run_at, made.last_run_at, made.last_job_id, made.owner) == (
        datetime(2026, 11, 25, 12, 1, tzinfo=UTC), None, None, None
    )  # fmt: skip
    assert await scheduler.tick() == 30
    assert await app.list_jobs() == []
    clock("2026-11-25 12:01:00.250")
    assert await scheduler.tick() == 59.75
    (job,) = await app.list_jobs()
    assert (job.function, job.payload) == ("tests.handlers.echo", {"args": [1], "kwargs": {}})
    assert (job.queue, job.priority, job.schedule_name) == ("reports", 3, "minutely")
    assert (job.key, job.scheduled_at) == ("schedule minutely 2026-11-25T12:01:00+00:00", made.next_run_at)
    now = await app.get_schedule("minutely")
    assert (now.last_run_at, now.last_job_id) == (made.next_run_at, job.id)
    assert await scheduler.tick() == 59.75
    assert len(await app.list_jobs()) == 1


async def test_a_clock_that_steps_back_fires_nothing_twice(
    app: Werk, clock: Clock, scheduler: Scheduler, fired: Ticks, query: Any
) -> None:
    await app.create_schedule(handlers.noop, **MINUTELY)
    for moment in ("12:01:05", "12:00:10", "12:01:30", "12:02:00"):
        clock(f"2026-11-25 {moment}")
        await scheduler.tick()
        query("delete from job")  # as if they had been forgotten already: their keys do not help
        query("delete from ready")
    assert fired() == []
    assert query("select count(*) from job") == [(0,)]
    schedule = await app.get_schedule("minutely")
    assert schedule.last_run_at == clock("2026-11-25 12:02:00")
    assert query("select last_value from job_id_seq") == [(2,)]


@pytest.mark.parametrize(
    ("missed", "ticks"),
    [
        ("latest", ["2026-11-25T12:05"]),
        ("skip", ["2026-11-25T12:05"]),
        ("all", [f"2026-11-25T12:0{minute}" for minute in range(1, 6)]),
    ],
)
async def test_ticks_that_were_missed(
    app: Werk, clock: Clock, scheduler: Scheduler, fired: Ticks, missed: str, ticks: list[str]
) -> None:
    await app.create_schedule(handlers.noop, missed=missed, **MINUTELY)
    clock("2026-11-25 12:05:20")
    await scheduler.tick()
    assert fired() == ticks
    assert (await app.get_schedule("minutely")).next_run_at == clock("2026-11-25 12:06:00")


async def test_what_is_more_than_a_minute_late_can_be_left_out(
    app: Werk, clock: Clock, scheduler: Scheduler, fired: Ticks
) -> None:
    await app.create_schedule(handlers.noop, name="hourly", cron="@hourly", missed=Missed.Skip)
    clock("2026-11-25 13:01:01")
    await scheduler.tick()
    assert fired() == []
    clock("2026-11-25 14:01:00")
    await scheduler.tick()
    assert fired() == ["2026-11-25T14:00"]


async def test_of_all_that_were_missed_a_thousand_run(
    app: Werk, clock: Clock, scheduler: Scheduler, fired: Ticks
) -> None:
    await app.create_schedule(handlers.noop, name="minutely", cron="* * * * *", missed="all")
    clock("2026-12-25 12:00:30")
    await scheduler.tick()
    assert (len(fired()), fired()[0]) == (1000, "2026-11-25T12:01")
    assert (await app.get_schedule("minutely")).next_run_at == clock("2026-12-25 12:01:00")


async def test_an_interval_keeps_its_grid(app: Werk, clock: Clock, scheduler: Scheduler, fired: Ticks) -> None:
    await app.create_schedule(handlers.noop, name="steady", interval=timedelta(minutes=10))
    for moment in ("12:10:31", "12:15:00", "12:48:00"):
        clock(f"2026-11-25 {moment}")
        await scheduler.tick()
    assert fired() == ["2026-11-25T12:10", "2026-11-25T12:40"]
    assert (await app.get_schedule("steady")).next_run_at == clock("2026-11-25 12:50:30")


@pytest.mark.parametrize(
    ("overlap", "jobs", "groups"),
    [(Overlap.Allow, 3, {None}), (Overlap.Skip, 1, {None}), (Overlap.Queue, 3, {"schedule minutely"})],
)
async def test_overlap(
    app: Werk, clock: Clock, scheduler: Scheduler, overlap: Overlap, jobs: int, groups: set[str | None]
) -> None:
    await app.create_schedule(handlers.noop, overlap=overlap, **MINUTELY)
    for minute in (1, 2, 3):
        clock(f"2026-11-25 12:0{minute}:00")
        await scheduler.tick()
    found = await app.list_jobs()
    assert len(found) == jobs
    assert {job.group_key for job in found} == groups
    await drain(app)
    clock("2026-11-25 12:04:00")
    await scheduler.tick()
    assert len(await app.list_jobs()) == jobs + 1


async def test_jitter_and_delay_come_after_the_tick(app: Werk, clock: Clock, scheduler: Scheduler) -> None:
    await app.create_schedule(handlers.noop, name="later", cron="* * * * *", jitter=20, delay=100, missed="all")
    tick = clock("2026-11-25 12:01:00")
    clock("2026-11-25 12:30:00")
    await scheduler.tick()
    due = sorted(job.scheduled_at for job in await app.list_jobs() if job.scheduled_at)
    late = [(moment - tick).total_seconds() % 60 - 40 for moment in due]
    assert len(set(late)) == len(late) == 30
    assert all(0 <= seconds <= 20 for seconds in late)


async def test_every_option_of_a_job(app: Werk, clock: Clock, scheduler: Scheduler) -> None:
    options: dict[str, Any] = {
        "retry": Retry(3, [1, 2]), "timeout": timedelta(seconds=9), "heartbeat": 5, "group": "g",
        "meta": {"a": [1, 2.5]},
        "ttl": 1e6, "result_ttl": 7, "failure_ttl": 8, "failure_mode": "delete", "on_success": handlers.remember,
        "on_failure": Callback("tests.handlers.remember", 4), "repeat": Repeat(2, 60), "priority": -4, "queue": "q",
    }  # fmt: skip
    clock("2026-11-25 12:00:30")
    made = await app.create_schedule(handlers.echo, kwargs={"value": 1}, **MINUTELY, **options)
    clock("2026-11-25 12:01:00")
    await scheduler.tick()
    by_schedule, by_hand = (
        await app.list_jobs(),
        await app.enqueue(handlers.echo, value=1, **{f"_{name}": value for name, value in options.items()}),
    )
    assert by_hand is not None
    (first,), second = by_schedule, await app.get_job(by_hand)
    own = ("id", "key", "scheduled_at", "enqueued_at", "expires_at", "schedule_name", "is_blocked")
    assert {name: getattr(first, name) for name in first.__slots__ if name not in own} == {
        name: getattr(second, name) for name in second.__slots__ if name not in own
    }
    assert made.options["retry"] == Retry(3, [1, 2])
    assert made.options["on_failure"] == Callback("tests.handlers.remember", 4.0)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "by cron or by interval, one of them"),
        ({"cron": "* * * * *", "interval": 5}, "by cron or by interval, one of them"),
        ({"cron": "* * *"}, "five fields"),
        ({"interval": 0.5}, "interval must be from 1"),
        ({"interval": "hourly"}, "interval must be seconds"),
        ({"cron": "@daily", "tz": "Europe/Paradise"}, "time zone"),
        ({"cron": "@daily", "missed": "never"}, "missed must be one of latest, all, skip"),
        ({"cron": "@daily", "overlap": 3}, "overlap must be one of"),
        ({"cron": "@daily", "overlap": "queue", "group": "g"}, "a group of their own"),
        ({"cron": "@daily", "jitter": -1}, "jitter must be"),
        ({"cron": "@daily", "key": "k"}, "its own key"),
        ({"cron": "@daily", "at": datetime.now(UTC)}, "its own at"),
        ({"cron": "@daily", "depends_on": 5}, "its own depends_on"),
        ({"cron": "@daily", "name": "n" * 201}, "1 to 200 characters"),
        ({"cron": "@daily", "name": ""}, "1 to 255 characters"),
        ({"cron": "@daily", "paused": "yes"}, "paused must be True or False"),
        ({"cron": "@daily", "args": [1, 2, 3]}, "do not fit"),
        ({"cron": "@daily", "priority": 10**6}, "_priority must be"),
        ({"cron": "@daily", "jiter": 5}, "jiter is no option of a schedule; did you mean jitter"),
    ],
)
async def test_what_cannot_work_is_refused_before_it_is_written(app: Werk, said: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidOption, InvalidType), match=words):
        await app.create_schedule(handlers.noop, **said)
    assert await app.list_schedules() == []


async def test_pause_and_resume(app: Werk, clock: Clock, scheduler: Scheduler, fired: Ticks) -> None:
    await app.create_schedule(handlers.noop, **MINUTELY)
    assert await app.pause_schedule("minutely")
    assert not await app.pause_schedule("minutely")
    clock("2026-11-25 12:05:20")
    assert await scheduler.tick() > 1
    assert await app.resume_schedule("minutely")
    assert not await app.resume_schedule("minutely")
    await scheduler.tick()
    assert fired() == []
    clock("2026-11-25 12:06:00")
    await scheduler.tick()
    assert fired() == ["2026-11-25T12:06"]


async def test_update_changes_what_is_said_alone(app: Werk, clock: Clock) -> None:
    made = await app.create_schedule(handlers.echo, args=[1], queue="q", retry=Retry(2, 5), jitter=3, **MINUTELY)
    changed = await app.update_schedule("minutely", args=[2], priority=7)
    assert (changed.args, changed.options) == ([2], {**made.options, "priority": 7})
    assert (changed.cron, changed.jitter, changed.next_run_at) == (made.cron, 3, made.next_run_at)
    clock("2026-11-25 12:00:40")
    changed = await app.update_schedule("minutely", interval=30)
    assert (changed.cron, changed.interval, changed.next_run_at) == (None, 30, clock("2026-11-25 12:01:10"))
    changed = await app.update_schedule(
        "minutely", cron="@daily", tz="Asia/Tokyo", func="tests.handlers.remember", args=()
    )
    assert (changed.cron, changed.interval, changed.function) == ("@daily", None, "tests.handlers.remember")
    assert changed.next_run_at == clock("2026-11-25 15:00:00")
    with pytest.raises(InvalidOption, match="keeps its name"):
        await app.update_schedule("minutely", name="other")
    with pytest.raises(ScheduleNotFound, match="there is no schedule 'other'"):
        await app.update_schedule("other", jitter=1)


async def test_trigger_runs_one_now(app: Werk, clock: Clock, scheduler: Scheduler) -> None:
    made = await app.create_schedule(handlers.echo, args=[5], paused=True, delay=60, **MINUTELY)
    job = await app.trigger_schedule("minutely")
    assert (job.payload, job.key, job.schedule_name) == ({"args": [5], "kwargs": {}}, None, "minutely")
    assert job.scheduled_at is None
    await app.enqueue(handlers.noop)
    assert [found.id for found in await app.list_jobs(schedule="minutely")] == [job.id]
    assert (await app.get_schedule("minutely")).next_run_at == made.next_run_at
    with pytest.raises(ScheduleNotFound):
        await app.trigger_schedule("other")


async def test_names_are_taken_once_and_free_again(app: Werk, clock: Clock) -> None:
    await app.create_schedule(handlers.noop, cron="@daily")
    with pytest.raises(ScheduleExists, match=r"'tests\.handlers\.noop' already"):
        await app.create_schedule(handlers.noop, interval=60)
    assert await app.delete_schedule("tests.handlers.noop")
    assert not await app.delete_schedule("tests.handlers.noop")
    with pytest.raises(ScheduleNotFound):
        await app.get_schedule("tests.handlers.noop")
    assert (await app.create_schedule(handlers.noop, interval=60)).interval == 60


async def test_code_registers_what_it_says(app: Werk, clock: Clock, scheduler: Scheduler) -> None:
    scheduler.register(handlers.noop, cron="@daily", _queue="q")
    scheduler.register(handlers.echo, args=[1], interval=60, name="echo", paused=True)
    await scheduler.sync()
    echo, noop = await app.list_schedules()
    assert (echo.name, echo.owner, echo.is_paused) == ("echo", "scheduler", True)
    assert (noop.name, noop.options, noop.is_paused) == ("tests.handlers.noop", {"queue": "q"}, False)
    await app.resume_schedule("echo")
    clock("2026-11-25 12:00:50")
    again = Scheduler(app)
    again.register(handlers.echo, args=[2], interval=60, name="echo", paused=True)
    await again.sync()
    changed = await app.get_schedule("echo")
    assert (changed.args, changed.is_paused, changed.next_run_at) == ([2], False, echo.next_run_at)


@pytest.mark.parametrize(("choice", "left"), [("keep", {"a": False}), ("pause", {"a": True}), ("delete", {})])
async def test_what_left_the_code(app: Werk, clock: Clock, choice: str, left: dict[str, bool]) -> None:
    first = Scheduler(app)
    first.register(handlers.noop, name="a", cron="@daily")
    other = Scheduler(app, name="another service")
    other.register(handlers.noop, name="b", cron="@daily")
    await app.create_schedule(handlers.noop, name="c", cron="@daily")
    for each in (first, other, Scheduler(app, on_unregistered=choice)):
        await each.sync()
    assert {each.name: each.is_paused for each in await app.list_schedules()} == left | {"b": False, "c": False}


async def test_code_does_not_take_what_is_somebody_elses(app: Werk, clock: Clock, scheduler: Scheduler) -> None:
    await app.create_schedule(handlers.noop, name="mine", cron="@daily")
    scheduler.register(handlers.noop, name="mine", cron="@hourly")
    with pytest.raises(ScheduleExists, match="'mine' is not this scheduler's"):
        await scheduler.sync()
    assert (await app.get_schedule("mine")).cron == "@daily"


async def test_many_schedulers_fire_each_tick_once(app: Werk, clock: Clock, fired: Ticks) -> None:
    for number in range(5):
        await app.create_schedule(handlers.noop, name=f"s{number}", cron="* * * * *")
    several = [Scheduler(app) for _ in range(6)]
    for minute in range(1, 6):
        clock(f"2026-11-25 12:0{minute}:00")
        await asyncio.gather(*(each.tick() for each in several))
    for each in several:
        each.close()
    assert sorted(fired()) == sorted(f"2026-11-25T12:0{minute}" for minute in range(1, 6) for _ in range(5))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("closed on Sundays"),
        psycopg.errors.UndefinedTable("there is no table of Sundays"),
        psycopg.OperationalError("the database of Sundays is away"),
        ServerUnreachable("no connection to the database of Sundays"),
    ],
)
async def test_a_refused_job_is_passed_over_and_told(
    app: Werk, clock: Clock, scheduler: Scheduler, heard: list[events.Event], fired: Ticks, error: Exception
) -> None:
    def refuse(params: EnqueueParams) -> None:
        if params.queue == "closed":
            raise error

    app.register_before_enqueue(refuse)
    await app.create_schedule(handlers.noop, name="a", cron="* * * * *", queue="closed")
    await app.create_schedule(handlers.noop, name="b", cron="* * * * *")
    clock("2026-11-25 12:01:00")
    assert await scheduler.tick() == 60
    assert fired() == ["2026-11-25T12:01"]
    assert heard == [events.ScheduleRefused("a", str(error))]


async def test_a_tick_outlives_an_error_of_the_schedulers_own_conversation(
    app: Werk, clock: Clock, scheduler: Scheduler, query: Any, heard: list[events.Event], fired: Ticks
) -> None:
    for name in "ab":
        await app.create_schedule(handlers.noop, name=name, cron="* * * * *")
    clock("2026-11-25 12:01:00")
    query("alter table ready rename to away")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await scheduler.tick()
    query("alter table away rename to ready")
    scheduler.close()
    await scheduler.tick()
    assert (fired(), heard) == (["2026-11-25T12:01"] * 2, [])


LEFT_ALONE = [  # what is wrong with the first schedule here, and what its scheduler says
    ("no library", "cron expressions need a library that is not here"),
    ("another serializer", "the payload of the schedule 'a' cannot be read: "),
    ("a function", "func shop.charge is not allowed here, only tests.handlers.*"),
    ("a callback", "_on_success shop.thank is not allowed here, only tests.handlers.*"),
]


@pytest.mark.parametrize(("lack", "words"), LEFT_ALONE)
async def test_what_only_this_process_cannot_do_is_left_to_others(
    app: Werk, clock: Clock, heard: list[events.Event], fired: Ticks, monkeypatch: pytest.MonkeyPatch, lack: str,
    words: str,
) -> None:  # fmt: skip
    serializer = PickleSerializer() if lack == "another serializer" else None
    function = "shop.charge" if lack == "a function" else handlers.noop
    options = {"on_success": "shop.thank"} if lack == "a callback" else {}
    async with (
        Werk(config=app.config, serializer=serializer) as others,
        Werk(config=app.config, allow=["tests.handlers.*"]) as own,
    ):
        await others.create_schedule(function, name="a", cron="* * * * *", **options)
        await own.create_schedule(handlers.noop, name="b", interval=60)
        before = (await own.list_schedules())[0]
        unable, able = Scheduler(own), Scheduler(others)
        with monkeypatch.context() as without:
            if lack == "no library":
                without.setitem(sys.modules, "cronsim", None)
            for minute in (1, 2):
                clock(f"2026-11-25 12:0{minute}:30")
                assert await unable.tick() == 60
        assert fired() == ["2026-11-25T12:01", "2026-11-25T12:02"]
        after = (await own.list_schedules())[0]
        assert (after.is_paused, after.next_run_at, after.updated_at) == (False, before.next_run_at, before.updated_at)
        (told,) = heard
        assert isinstance(told, events.ScheduleLeft)
        assert (told.name, told.error.startswith(words)) == ("a", True)
        assert await able.tick() == 30
        assert [job.schedule_name for job in await others.list_jobs(limit=1)] == ["a"]
        for each in (unable, able):
            each.close()


async def test_any_number_of_schedules_that_are_left_to_others_hold_up_none(
    app: Werk, clock: Clock, scheduler: Scheduler, query: Any, heard: list[events.Event], fired: Ticks
) -> None:
    await app.create_schedule(handlers.noop, name="a", cron="* * * * *")
    query("""
        insert into schedule (name, function, payload, options, cron, tz, missed, overlap, jitter_secs, next_run_at)
        select 'a' || n, function, '5', options, cron, tz, missed, overlap, jitter_secs, '2026-11-25 12:00Z'
        from schedule, generate_series(1, 250) n
    """)
    clock("2026-11-25 12:01:00")
    assert await scheduler.tick() == 60
    assert fired() == ["2026-11-25T12:01"]
    assert len(heard) == 250


@pytest.mark.parametrize(
    ("rubbish", "told"),
    [
        ("cron = 'x'", events.ScheduleUnfit),
        ("tz = 'Mars'", events.ScheduleUnfit),
        ("payload = '5'", events.ScheduleLeft),
        ("options = '{\"queue\": 5}'", events.ScheduleRefused),
        ("options = '{\"no\": 1}'", events.ScheduleRefused),
    ],
)
async def test_a_row_of_rubbish_harms_no_other(
    app: Werk, clock: Clock, scheduler: Scheduler, query: Any, heard: list[events.Event], fired: Ticks, rubbish: str,
    told: type[events.Event],
) -> None:  # fmt: skip
    for name in "ab":
        await app.create_schedule(handlers.noop, name=name, cron="* * * * *")
    query(f"update schedule set {rubbish} where name = 'a'")
    clock("2026-11-25 12:01:00")
    await scheduler.tick()
    assert fired() == ["2026-11-25T12:01"]
    assert [type(event) for event in heard] == [told]
    assert (await app.list_schedules())[0].is_paused == (told is events.ScheduleUnfit)


@pytest.mark.parametrize(
    ("theirs", "ours"), [(PickleSerializer(), JSONSerializer()), (JSONSerializer(), PickleSerializer())]
)
async def test_a_schedule_of_another_serializer_harms_no_other(
    app: Werk, clock: Clock, heard: list[events.Event], fired: Ticks, theirs: Serializer, ours: Serializer
) -> None:
    words = r"the payload of the schedule 'a' cannot be read: .*; was it .* by an app with another serializer\?"
    async with Werk(config=app.config, serializer=theirs) as other, Werk(config=app.config, serializer=ours) as own:
        await other.create_schedule(handlers.square, args=[2], name="a", cron="* * * * *")
        await own.create_schedule(handlers.square, args=[3], name="b", cron="* * * * *")
        a: Any
        a, b = await own.list_schedules()
        assert (a.name, b.name, b.args) == ("a", "b", [3])
        assert a.args is a.kwargs
        assert isinstance(a.args, NotSerializable)
        assert re.fullmatch(words, str(a.args))
        for asked in (own.get_schedule("a"), own.trigger_schedule("a"), own.update_schedule("a", priority=5)):
            with pytest.raises(NotSerializable, match=words):
                await asked
        assert await own.pause_schedule("a")
        assert await own.resume_schedule("a")
        scheduler = Scheduler(own)
        for minute in (1, 2):
            clock(f"2026-11-25 12:0{minute}:00")
            await scheduler.tick()
        scheduler.close()
        assert fired() == ["2026-11-25T12:01", "2026-11-25T12:02"]
        (told,) = heard
        assert isinstance(told, events.ScheduleLeft)
        assert re.fullmatch(words, told.error)
        assert [each.is_paused for each in await own.list_schedules()] == [False, False]
        assert await own.delete_schedule("a")


async def test_options_that_cannot_be_read_spoil_no_list(app: Werk, query: Any) -> None:
    for name in "ab":
        await app.create_schedule(handlers.noop, name=name, interval=60)
    query("update schedule set options = '{\"retry\": {\"no\": 1}}' where name = 'a'")
    a: Any
    a, b = await app.list_schedules()
    assert isinstance(a.options, NotSerializable)
    assert str(a.options).startswith("the options of the schedule 'a' cannot be read: ")
    assert b.options == {}
    with pytest.raises(NotSerializable, match="the options of the schedule 'a' cannot be read: "):
        await app.get_schedule("a")


async def _until(fact: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await fact():
            await asyncio.sleep(0.05)


async def test_a_worker_fires_schedules_too(app: Werk, query: Any) -> None:
    scheduler = Scheduler(app)
    scheduler.register(handlers.noop, name="often", interval=1)
    for times in (2, 4):
        worker = AsyncWorker(app, scheduler=scheduler)
        running = asyncio.create_task(worker.run())
        await _until(partial(_has_run, app, times))
        worker.stop()
        await running
    keys = [job.key for job in await app.list_jobs()]
    assert len(set(keys)) == len(keys)


async def _has_run(app: Werk, times: int) -> bool:
    return len(await app.list_jobs(status="complete")) >= times


async def test_a_scheduler_outlives_an_outage_and_is_told_of_once(
    app: Werk, query: Any, heard: list[events.Event], schema: str
) -> None:
    await app.create_schedule(handlers.noop, name="often", interval=1)
    scheduler = Scheduler(app)
    running = asyncio.create_task(scheduler.serve())
    await _until(lambda: _is_enqueued(app, 1))
    query("alter table schedule rename to away")
    await _until(lambda: _is_told(heard, events.SchedulerAway))
    query("alter table away rename to schedule")
    await _until(lambda: _is_told(heard, events.SchedulerBack))
    before = len(await app.list_jobs())
    await _until(lambda: _is_enqueued(app, before + 1))
    scheduler.stop()
    await running
    assert [type(event) for event in heard] == [events.SchedulerAway, events.SchedulerBack]


async def _is_enqueued(app: Werk, jobs: int) -> bool:
    return len(await app.list_jobs()) >= jobs


async def _is_told(heard: list[events.Event], kind: type[events.Event]) -> bool:
    return any(isinstance(event, kind) for event in heard)
