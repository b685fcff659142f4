"""When a worker asks for work, by its own clock."""

from __future__ import annotations

import pytest

from pgwerk.worker import cadence as module
from pgwerk.worker.cadence import BUSY, FIRST_POLL, Cadence, Phase

POLL = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def cadence(clock: Clock) -> Cadence:
    return Cadence()


def _answer(cadence: Cadence, found: int = 0, *, more: bool = False, announced: bool | None = None) -> None:
    cadence.answered(found, more=more, announced=announced, poll_interval=POLL)


def _go_idle(cadence: Cadence, *, listening: bool = True) -> None:
    while cadence.phase is not Phase.IDLE:
        _answer(cadence, announced=cadence.announcement(listening=listening))


@pytest.mark.parametrize(
    ("before", "found", "more", "after"),
    [
        (Phase.FEEDING, 5, True, Phase.FEEDING),
        (Phase.FEEDING, 0, True, Phase.FEEDING),  # a lane was discovered
        (Phase.FEEDING, 3, False, Phase.CHECKING),
        (Phase.FEEDING, 0, False, Phase.CHECKING),
        (Phase.CHECKING, 0, False, Phase.IDLE),
        (Phase.CHECKING, 3, False, Phase.CHECKING),
        (Phase.CHECKING, 5, True, Phase.FEEDING),
        (Phase.IDLE, 0, False, Phase.IDLE),
        (Phase.IDLE, 3, False, Phase.CHECKING),
        (Phase.IDLE, 5, True, Phase.FEEDING),
    ],
)
def test_what_an_answer_leads_to(cadence: Cadence, before: Phase, found: int, more: bool, after: Phase) -> None:
    cadence.phase = before
    _answer(cadence, found, more=more)
    assert cadence.phase is after


def test_it_begins_hungry_and_goes_idle_only_after_a_thorough_look(cadence: Cadence) -> None:
    assert (cadence.is_hungry, cadence.is_checking) == (True, False)
    _answer(cadence)
    assert (cadence.is_hungry, cadence.is_checking) == (True, True)
    _answer(cadence)
    assert (cadence.is_hungry, cadence.is_checking) == (False, False)


def test_a_notification_that_comes_while_a_claim_is_under_way_is_not_lost(cadence: Cadence) -> None:
    _answer(cadence)
    cadence.wake()
    _answer(cadence)
    assert cadence.is_hungry


def test_an_idle_worker_polls_with_backoff_up_to_the_interval(cadence: Cadence, clock: Clock) -> None:
    waits = []
    for _ in range(14):
        _go_idle(cadence)
        waits.append(cadence.poll_in)
        clock.now += cadence.poll_in
        assert cadence.poll_in == 0
        cadence.poll()
    assert waits[:4] == pytest.approx([FIRST_POLL, 2 * FIRST_POLL, 4 * FIRST_POLL, 8 * FIRST_POLL])
    assert waits[9:] == pytest.approx([POLL] * 5)


def test_a_poll_looks_thoroughly(cadence: Cadence) -> None:
    _go_idle(cadence)
    cadence.poll()
    assert cadence.is_checking


def test_the_time_to_the_next_poll_runs(cadence: Cadence, clock: Clock) -> None:
    _go_idle(cadence)
    clock.now += FIRST_POLL / 2
    assert cadence.poll_in == pytest.approx(FIRST_POLL / 2)
    clock.now += 60
    assert cadence.poll_in == 0


# Announcements.


def test_idleness_is_announced_with_the_thorough_look_and_once(cadence: Cadence) -> None:
    assert cadence.announcement(listening=True) is None
    _answer(cadence)
    assert cadence.announcement(listening=True) is True
    _answer(cadence, announced=True)
    cadence.poll()
    assert cadence.announcement(listening=True) is None


def test_who_cannot_hear_announces_nothing(cadence: Cadence) -> None:
    _answer(cadence)
    assert cadence.announcement(listening=False) is None


def test_who_can_hear_no_more_takes_it_back(cadence: Cadence) -> None:
    _go_idle(cadence)
    cadence.wake()
    assert cadence.announcement(listening=False) is False
    _answer(cadence, announced=False)
    assert cadence.announcement(listening=False) is None


def test_an_announcement_whose_claim_failed_is_made_again(cadence: Cadence) -> None:
    _answer(cadence)
    assert cadence.announcement(listening=True) is True
    assert cadence.announcement(listening=True) is True


def test_it_is_taken_back_only_after_a_second_of_work(cadence: Cadence, clock: Clock) -> None:
    _go_idle(cadence)
    cadence.wake()
    _answer(cadence, 10, more=True)
    clock.now += BUSY * 0.9
    _answer(cadence, 10, more=True)
    assert cadence.announcement(listening=True) is None
    clock.now += BUSY * 0.2
    assert cadence.announcement(listening=True) is False


def test_a_pause_in_between_is_no_second_of_work(cadence: Cadence, clock: Clock) -> None:
    _go_idle(cadence)
    for _ in range(5):
        cadence.wake()
        _answer(cadence, 10, more=True)
        clock.now += BUSY * 0.9
        _answer(cadence, 1)
    assert cadence.announcement(listening=True) is None


def test_it_is_announced_again_when_the_work_is_over(cadence: Cadence, clock: Clock) -> None:
    _go_idle(cadence)
    cadence.wake()
    _answer(cadence, 10, more=True)
    clock.now += BUSY
    _answer(cadence, 10, more=True, announced=cadence.announcement(listening=True))
    _answer(cadence, 1)
    assert cadence.announcement(listening=True) is True


def test_after_an_announcement_the_polls_begin_anew(cadence: Cadence, clock: Clock) -> None:
    """Whoever enqueued without seeing it is through by one of the first polls."""
    _go_idle(cadence)
    for _ in range(5):
        cadence.poll()
        _answer(cadence)
    cadence.restart()
    _go_idle(cadence)
    assert cadence.poll_in == pytest.approx(FIRST_POLL)


def test_who_listens_keeps_its_slow_polls_when_it_finds_something(cadence: Cadence, clock: Clock) -> None:
    for _ in range(12):
        _go_idle(cadence)
        cadence.poll()
    cadence.wake()
    _answer(cadence, 1)
    _go_idle(cadence)
    assert cadence.poll_in == pytest.approx(POLL)


def test_who_only_polls_polls_fast_again_once_it_found_something(cadence: Cadence) -> None:
    for _ in range(12):
        _go_idle(cadence, listening=False)
        cadence.poll()
    _answer(cadence, 1)
    _go_idle(cadence, listening=False)
    assert cadence.poll_in == pytest.approx(FIRST_POLL)


def test_after_an_outage_nothing_is_known(cadence: Cadence, clock: Clock) -> None:
    _go_idle(cadence)
    cadence.restart()
    assert cadence.phase is Phase.FEEDING
    assert cadence.poll_in == 0
    _answer(cadence)
    assert cadence.announcement(listening=True) is True
