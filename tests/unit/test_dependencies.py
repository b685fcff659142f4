"""Jobs of one call that name each other."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgwerk import Dependency, EnqueueParams, InvalidOption, InvalidType, JSONSerializer
from pgwerk.dependencies import LONGEST_RING
from pgwerk.specifying import specify_all


def _job(name: str, on: Any = None) -> EnqueueParams:
    return EnqueueParams(f"shop.{name}", depends_on=on)


def _edges(params: list[EnqueueParams]) -> list[Any]:
    return [spec.columns.get("depends_on") for spec in specify_all(params, JSONSerializer())]


def _edge(place: int, *, allow_failure: bool = False) -> dict[str, Any]:
    return {"on_id": None, "on_place": place, "allow_failure": allow_failure}


def test_a_job_names_another_one_by_its_place_before_or_after() -> None:
    first = _job("first")
    last = _job("last", [first, 7])
    middle = _job("middle", Dependency(last, allow_failure=True))
    assert _edges([first, middle, last]) == [
        None,
        [_edge(3, allow_failure=True)],
        [_edge(1), {"on_id": 7, "on_place": None, "allow_failure": False}],
    ]


def test_one_twice_in_the_call_is_fine_as_long_as_nothing_depends_on_it() -> None:
    twin, other = _job("twin"), _job("other")
    assert _edges([twin, twin, other]) == [None] * 3
    with pytest.raises(InvalidOption) as caught:
        specify_all([twin, twin, _job("other", twin)], JSONSerializer())
    assert str(caught.value) == "the EnqueueParams of shop.twin is in the call twice, and a job depends on one of them"


def test_one_of_another_call_is_refused() -> None:
    with pytest.raises(InvalidOption, match="by the EnqueueParams of another job of the same call, got EnqueueParams"):
        specify_all([_job("a", _job("b"))], JSONSerializer())


def test_a_ring_is_refused_by_the_names_along_it() -> None:
    a, b, c = _job("a"), _job("b"), _job("c")
    a.depends_on, b.depends_on, c.depends_on = c, a, b
    with pytest.raises(InvalidOption) as caught:
        specify_all([_job("free"), a, b, c], JSONSerializer())
    assert str(caught.value) == (
        "these jobs wait for each other in a ring, and none could ever run: shop.a → shop.c → shop.b → shop.a"
    )


def test_a_job_that_waits_for_itself_is_refused() -> None:
    own = _job("own")
    own.depends_on = own
    with pytest.raises(InvalidOption, match=r"in a ring, and none could ever run: shop\.own → shop\.own"):
        specify_all([own], JSONSerializer())


@pytest.mark.parametrize("size", [LONGEST_RING, LONGEST_RING + 1, 1000])
def test_of_a_long_ring_the_middle_is_left_out(size: int) -> None:
    several = [_job(f"j{number}") for number in range(size)]
    for number, each in enumerate(several):
        each.depends_on = several[(number + 1) % size]
    with pytest.raises(InvalidOption) as caught:
        specify_all(several, JSONSerializer())
    names = [f"shop.j{number % size}" for number in range(size + 1)]
    if size > LONGEST_RING:
        names = [*names[: LONGEST_RING - 1], f"… {size - LONGEST_RING} more …", *names[-2:]]
    assert str(caught.value).endswith(f" could ever run: {' → '.join(names)}")


@pytest.mark.parametrize("answer", ["no", "maybe", None, 1, []])
def test_a_failure_is_allowed_or_not(answer: Any) -> None:
    with pytest.raises(InvalidType) as caught:
        Dependency(7, answer)
    assert str(caught.value) == f"Dependency.allow_failure must be True or False, got {answer!r}"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_rings_and_only_rings_are_refused(arrows: list[tuple[int, int]]) -> None:
    several = [_job(f"job{number}") for number in range(6)]
    for number, each in enumerate(several):
        each.depends_on = [several[on] for job, on in arrows if job == number]
    if any(_reaches(arrows, number, number) for number in range(6)):
        with pytest.raises(InvalidOption, match="in a ring") as caught:
            specify_all(several, JSONSerializer())
        walk = [int(number) for number in re.findall(r"shop\.job(\d)", str(caught.value))]
        assert walk[0] == walk[-1]
        assert set(itertools.pairwise(walk)) <= set(arrows)
    else:
        assert len(specify_all(several, JSONSerializer())) == 6


def _reaches(arrows: list[tuple[int, int]], start: int, end: int) -> bool:
    seen: set[int] = set()
    pending = [on for job, on in arrows if job == start]
    while pending:
        place = pending.pop()
        if place not in seen:
            seen.add(place)
            pending += [on for job, on in arrows if job == place]
    return end in seen
