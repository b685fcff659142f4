"""Who is dead, by what one observer has read."""

from __future__ import annotations

from hypothesis import given, strategies as st

from pgwerk.store.workers import Pulse
from pgwerk.worker.services.beat import Watch

PATIENCE = 10.0


def _look(watch: Watch[Pulse], beat: int, asked: float, heard: float | None = None, worker_id: int = 1) -> bool:
    """Asked then, heard then: is that worker taken for dead?"""
    dead = watch.look([Pulse(worker_id, beat, PATIENCE)], asked, asked if heard is None else heard)
    return bool(dead)


def test_the_same_beat_for_too_long_is_death_and_not_before() -> None:
    watch = Watch()
    assert not _look(watch, 7, 0)
    assert not _look(watch, 7, 5)
    assert not _look(watch, 7, 9.99)
    assert _look(watch, 7, 10)


def test_how_long_it_was_silent_is_said() -> None:
    watch = Watch()
    pulse = Pulse(1, 7, PATIENCE)
    watch.look([pulse], 0, 0)
    assert watch.look([pulse], 12.5, 12.5) == [(pulse, 12.5)]


def test_a_first_look_declares_nobody() -> None:
    assert not _look(Watch(), 7, 1e9)


def test_a_changed_beat_is_life() -> None:
    watch = Watch()
    assert not _look(watch, 7, 0)
    assert not _look(watch, 8, 9)
    assert not _look(watch, 8, 18)
    assert _look(watch, 8, 19)


def test_a_beat_that_went_back_is_a_change_too() -> None:
    """A failover may have lost the latest ones."""
    watch = Watch()
    _look(watch, 7, 0)
    assert not _look(watch, 6, 11)


def test_an_observer_held_up_between_asking_and_hearing_has_observed_nothing() -> None:
    watch = Watch()
    assert not _look(watch, 7, asked=0, heard=0)
    assert not _look(watch, 7, asked=2, heard=60)
    assert not _look(watch, 7, asked=5, heard=61)
    assert _look(watch, 7, asked=62, heard=62)


def test_the_time_until_the_first_hearing_does_not_count() -> None:
    watch = Watch()
    assert not _look(watch, 7, asked=0, heard=60)
    assert not _look(watch, 7, asked=61, heard=61)
    assert _look(watch, 7, asked=70, heard=70)


def test_the_time_from_one_connection_to_the_next_does_not_count() -> None:
    watch = Watch()
    _look(watch, 7, 0)
    assert not _look(watch, 7, 6)
    watch.interrupted()
    assert not _look(watch, 7, 60)
    assert not _look(watch, 7, 63)
    assert _look(watch, 7, 64)


def test_a_connection_that_looks_but_once_has_seen_no_time_pass() -> None:
    watch = Watch()
    for moment in range(100):
        assert not _look(watch, 7, moment)
        watch.interrupted()


def test_who_has_come_in_between_is_given_its_own_time() -> None:
    watch = Watch()
    _look(watch, 7, 0)
    watch.interrupted()
    assert not _look(watch, 7, 60, worker_id=2)
    assert not _look(watch, 7, 69, worker_id=2)
    assert _look(watch, 7, 70, worker_id=2)


def test_a_worker_that_was_not_seen_in_between_starts_anew() -> None:
    watch = Watch()
    _look(watch, 7, 0)
    watch.look([], 5, 5)
    assert not _look(watch, 7, 11)


def test_a_new_worker_is_given_its_own_time() -> None:
    watch = Watch()
    _look(watch, 7, 0)
    old, new = Pulse(1, 7, PATIENCE), Pulse(2, 7, PATIENCE)
    assert watch.look([old, new], 10, 10) == [(old, 10)]
    assert watch.look([new], 19, 19) == []
    assert watch.look([new], 20, 20) == [(new, 10)]


def test_each_is_given_the_patience_it_asked_for() -> None:
    watch = Watch()
    quick, slow = Pulse(1, 1, 2.0), Pulse(2, 1, 60.0)
    watch.look([quick, slow], 0, 0)
    assert watch.look([quick, slow], 30, 30) == [(quick, 30)]


def test_the_dead_stay_dead_until_they_are_gone() -> None:
    """A declaration that failed is made again."""
    watch = Watch()
    _look(watch, 7, 0)
    assert _look(watch, 7, 10)
    assert _look(watch, 7, 12)


intervals = st.tuples(st.floats(0, 30), st.floats(0, 30), st.booleans())


@given(st.lists(intervals, max_size=20), st.floats(0.1, 20))
def test_nobody_is_declared_whose_beat_was_not_read_unchanged_that_long(
    looks: list[tuple[float, float, bool]], patience: float
) -> None:
    watch, now, beat = Watch(), 0.0, 0
    unchanged_since: float | None = None
    for before_asking, until_heard, has_beaten in looks:
        asked = now + before_asking
        now = heard = asked + until_heard
        if has_beaten:
            beat, unchanged_since = beat + 1, None
        dead = watch.look([Pulse(1, beat, patience)], asked, heard)
        assert bool(dead) == (unchanged_since is not None and asked - unchanged_since >= patience)
        unchanged_since = heard if unchanged_since is None else unchanged_since
