"""When schedules are due, beside another way to find it out: every minute of the days around each change of the clocks,
and what the clock on the wall shows then.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate, islice, takewhile
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from pgwerk import InvalidOption, InvalidType
from pgwerk.cron import LONGEST, NICKNAMES, Cron, Every, ticks

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
CHANGES = {
    "Europe/Paris, forward": ("Europe/Paris", "2027-03-28"),
    "Europe/Paris, back": ("Europe/Paris", "2027-10-31"),
    "America/New_York, forward": ("America/New_York", "2026-03-08"),
    "America/New_York, back": ("America/New_York", "2026-11-01"),
    "half an hour, forward": ("Australia/Lord_Howe", "2026-10-04"),
    "half an hour, back": ("Australia/Lord_Howe", "2026-04-05"),
    "no midnight": ("Africa/Cairo", "2027-04-30"),
    "two midnights": ("America/Sao_Paulo", "2018-02-18"),
    "no such day": ("Pacific/Apia", "2011-12-30"),
    "no change, odd minutes": ("Asia/Kathmandu", "2026-06-15"),
    "leap day": ("UTC", "2028-02-29"),
    "the year's end": ("America/St_Johns", "2026-12-31"),
}
EXPRESSIONS = (
    "* * * * *", "*/15 * * * *", "7 * * * *", "30 2 * * *", "0 0 * * *", "0 3 * * *", "*/20 2 * * *", "15 1-3 * * *",
    "0 */2 * * *", "45 1,2,23 * * *", "0 12 31 * *", "10 2 29 2 *", "30 0 1 1,4,5 *", "30 2 * * 0", "0 1-3 * * 6,7",
)  # fmt: skip


@cache
def field(text: str, least: int, most: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        first, last = (least, most) if span == "*" else (int(low), int(high or low))
        found |= set(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def matches(expression: str, wall: datetime) -> bool:
    minute, hour, day, month, weekday = expression.split()
    is_day = wall.day in field(day, 1, 31)
    is_weekday = wall.isoweekday() % 7 in {number % 7 for number in field(weekday, 0, 7)}
    return (
        wall.minute in field(minute, 0, 59) and wall.hour in field(hour, 0, 23) and wall.month in field(month, 1, 12)
        and (is_day and is_weekday if "*" in (day[0], weekday[0]) else is_day or is_weekday)
    )  # fmt: skip


@cache
def shown(zone: str, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Each minute, and what the clock on the wall shows then."""
    moments = [start + number * MINUTE for number in range((end - start) // MINUTE)]
    return [(moment, moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for moment in moments]


def expected(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """What is for every hour: whenever the clock shows it. All else: when it first shows that, or something later."""
    minutes = shown(zone, start, end)
    if expression.split()[1] == "*":
        return [moment for moment, wall in minutes if matches(expression, wall)]
    latest = list(accumulate((wall for _, wall in minutes), max))
    walls = (latest[0] + number * MINUTE for number in range((latest[-1] - latest[0]) // MINUTE + 1))
    return sorted({minutes[bisect_left(latest, wall)][0] for wall in walls if matches(expression, wall)})


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_ticks_around_a_change_of_the_clocks(change: str, expression: str) -> None:
    zone, day = CHANGES[change]
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) - DAY
    cron, end = Cron(expression, zone), start + 3 * DAY
    wanted = expected(expression, zone, start, end)
    first = cron.after(start - MINUTE / 60)
    assert first is not None
    assert list(takewhile(lambda tick: tick < end, ticks(cron, first, end))) == wanted
    for tick in wanted[1::50]:
        assert cron.last(wanted[0], tick) == tick
        assert cron.last(wanted[0], tick + MINUTE / 2) == tick


@pytest.mark.parametrize(
    ("expression", "start", "wanted"),
    [
        ("0 9 L * *", "2028-02-01", ["2028-02-29T09:00", "2028-03-31T09:00", "2028-04-30T09:00"]),
        ("0 9 LW * *", "2026-05-01", ["2026-05-29T09:00", "2026-06-30T09:00"]),
        ("0 9 * * 1#2", "2026-11-01", ["2026-11-09T09:00", "2026-12-14T09:00"]),
        ("0 9 * * 5L", "2026-11-01", ["2026-11-27T09:00", "2026-12-25T09:00"]),
        ("0 0 29 2 *", "2026-11-01", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("0 8 * jan-mar mon-fri", "2026-11-01", ["2027-01-01T08:00", "2027-01-04T08:00"]),
        ("15 30 8 * * *", "2026-11-01", ["2026-11-01T08:30:15", "2026-11-02T08:30:15"]),
        ("*/20 * * * * *", "2026-11-01", ["2026-11-01T00:00:20", "2026-11-01T00:00:40"]),
        ("@hourly", "2026-11-01", ["2026-11-01T01:00", "2026-11-01T02:00"]),
        ("@Weekly", "2026-11-02", ["2026-11-08T00:00", "2026-11-15T00:00"]),
    ],
)
def test_what_expressions_can_say(expression: str, start: str, wanted: list[str]) -> None:
    moment: datetime | None = datetime.fromisoformat(start).replace(tzinfo=UTC)
    found = []
    for _ in wanted:
        assert moment is not None
        moment = Cron(expression).after(moment)
        found.append(moment)
    assert found == [datetime.fromisoformat(each).replace(tzinfo=UTC) for each in wanted]


@pytest.mark.parametrize("name", NICKNAMES)
def test_nicknames_say_what_they_stand_for(name: str) -> None:
    now = datetime.now(UTC)
    assert Cron(name).after(now) == Cron(NICKNAMES[name]).after(now)


def test_ten_years_of_days_have_no_gap_and_nothing_twice() -> None:
    cron, start = Cron("30 2 * * *", "Europe/Paris"), datetime(2026, 1, 1, tzinfo=UTC)
    found = list(islice(_on_from(cron, start), 3653))
    days = [tick.astimezone(cron.tz).date() for tick in found]
    assert days == [days[0] + number * DAY for number in range(3653)]


def _on_from(cron: Cron, moment: datetime | None) -> Iterator[datetime]:
    while moment is not None and (moment := cron.after(moment)) is not None:
        yield moment


def test_the_newest_tick_of_a_long_outage_is_found_without_counting_them() -> None:
    """300 million seconds."""
    first, until = datetime(2016, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 30, 500, tzinfo=UTC)
    start = time.process_time()
    assert Cron("* * * * * *").last(first, until) == until.replace(microsecond=0)
    assert Cron("0 0 29 2 *").last(datetime(2016, 2, 29, tzinfo=UTC), until) == datetime(2024, 2, 29, tzinfo=UTC)
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("61 * * * *", "the minute of cron is not valid, got '61' in"),
        ("* 24 * * *", "the hour of cron is not valid, got '24'"),
        ("* * 32 * *", "the day-of-month of cron is not valid, got '32'"),
        ("* * * 13 *", "the month of cron is not valid, got '13'"),
        ("* * * * mo", "the day-of-week of cron is not valid, got 'mo'"),
        ("99 * * * * *", "the second of cron is not valid, got '99'"),
        ("*/0 * * * *", "the minute of cron is not valid"),
        ("0 0 30 2 *", "the day-of-month of cron is not valid, got '30'"),
        ("0 0 31 4,6 *", "the day-of-month of cron is not valid, got '31'"),
        ("* * * *", "five fields"),
        ("* * * * * * *", "five fields"),
        ("@often", "five fields"),
        ("", "five fields"),
        ("٣ * * * *", "plain characters"),
        ("\0 * * * *", "plain characters"),
        ("*," * 1_000_000 + "* * * * *", "at most 255"),
    ],
)
def test_what_cannot_be_due_is_refused_with_its_field(expression: str, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        Cron(expression)


def test_other_kinds_and_other_zones_are_refused() -> None:
    with pytest.raises(InvalidType, match="cron must be an expression"):
        Cron(5)  # type: ignore[arg-type]
    for zone in ("Europe/Paradise", "../etc/passwd", "", "Europe", "a" * 300, "\0"):
        with pytest.raises(InvalidOption, match="tz must be the name of a time zone"):
            Cron("* * * * *", zone)
    with pytest.raises(InvalidType, match="tz must be the name"):
        Cron("* * * * *", 5)  # type: ignore[arg-type]


@given(st.text(alphabet="0123456789*/,-#LWmonjafe? \n", max_size=LONGEST + 5))
def test_any_text_is_a_rhythm_or_is_refused(text: str) -> None:
    try:
        cron = Cron(text)
    except InvalidOption:
        return
    now = datetime(2026, 11, 25, 12, 30, 15, 5, tzinfo=UTC)
    first = cron.after(now)
    assert first is not None
    assert first > now
    assert cron.last(first, first + MINUTE / 60) in (first, first + MINUTE / 60)


@given(st.floats(1, 1e7), st.integers(0, 50 * 366 * 86400), st.floats(0, 1e8))
def test_an_interval_keeps_its_grid(seconds: float, begin: int, later: float) -> None:
    start = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=begin)
    every, moment = Every(seconds, start), start + timedelta(seconds=later)
    following, last = every.after(moment), every.last(start, moment)
    assert last <= moment < following
    assert following - last == timedelta(seconds=seconds)
    assert (last - start) % timedelta(seconds=seconds) == timedelta(0)
