"""Which job waits for which: what callers name, as the database reads it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pgwerk import checks
from pgwerk.errors import InvalidOption, brief
from pgwerk.job import Job, job_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pgwerk.params import EnqueueParams

Edges: TypeAlias = list[dict[str, Any]]

LONGEST_RING = 10  # jobs; of a longer one the middle is left out


@dataclass(frozen=True, slots=True)
class Dependency:
    """A job that has to end first; unless `allow_failure`, it has to complete."""

    job: Job | int | str | EnqueueParams
    allow_failure: bool = False

    def __post_init__(self) -> None:
        checks.flag("Dependency.allow_failure", self.allow_failure)


def edges(several: Sequence[EnqueueParams]) -> list[Edges | None]:
    """For each job of a call: an edge names a job that is there, or the place (from 1) of another one of the call. Of
    several with one key that is the first: the others are not written.
    """
    places = {id(each): place for place, each in enumerate(several, 1)}
    keyed = {each.key: places[id(each)] for each in reversed(several) if isinstance(each.key, str)}
    places |= {id(each): keyed[each.key] for each in several if isinstance(each.key, str)}
    found = [_edges(each.depends_on, places) for each in several]
    upstream = [[edge["on_place"] for edge in some or () if edge["on_place"] is not None] for some in found]
    if any(upstream):
        _refuse_twins(several, {place for some in upstream for place in some})
        _refuse_ring(several, upstream)
    return found


def _edges(given: Any, places: Mapping[int, int]) -> Edges | None:
    """One edge for each job, however often it is named: a failure is allowed only if that is said each time."""
    met: dict[tuple[int | None, int | None], bool] = {}
    for dependency in _dependencies(given):
        which = _which(dependency.job, places)
        met[which] = met.get(which, True) and dependency.allow_failure
    return [
        {"on_id": on_id, "on_place": on_place, "allow_failure": allow_failure}
        for (on_id, on_place), allow_failure in met.items()
    ] or None


def _dependencies(given: Any) -> Iterator[Dependency]:
    if given is None:
        return
    for each in given if isinstance(given, list | tuple) else [given]:
        yield each if isinstance(each, Dependency) else Dependency(each)


def _which(job: Any, places: Mapping[int, int]) -> tuple[int | None, int | None]:
    if job is None:
        raise InvalidOption("_depends_on got None, which enqueue returns for a taken key; use the job that has the key")
    if id(job) in places:
        return None, places[id(job)]
    try:
        return job_id(job), None
    except ValueError as error:
        raise InvalidOption(
            "_depends_on names a job by its Job, its id, or in enqueue_many by the EnqueueParams of another job of the "
            f"same call, got {brief(job)}"
        ) from error


def _refuse_twins(several: Sequence[EnqueueParams], named: set[int]) -> None:
    times = Counter(id(each) for each in several)
    twin = next((several[place - 1] for place in named if times[id(several[place - 1])] > 1), None)
    if twin is not None:
        raise InvalidOption(
            f"the EnqueueParams of {_name(twin)} is in the call twice, and a job depends on one of them"
        )


def _refuse_ring(several: Sequence[EnqueueParams], upstream: Sequence[Sequence[int]]) -> None:
    """Takes away what waits for nothing that is left, until only rings are."""
    left = {place: set(some) for place, some in enumerate(upstream, 1)}
    downstream: dict[int, list[int]] = {}
    for place, some in left.items():
        for on_place in some:
            downstream.setdefault(on_place, []).append(place)
    free = [place for place, some in left.items() if not some]
    while free:
        gone = free.pop()
        del left[gone]
        for place in downstream.get(gone, ()):
            left[place].discard(gone)
            if not left[place]:
                free.append(place)
    if left:
        ring = " → ".join(_shortened([_name(several[place - 1]) for place in _ring(left)]))
        raise InvalidOption(f"these jobs wait for each other in a ring, and none could ever run: {ring}")


def _ring(left: Mapping[int, set[int]]) -> list[int]:
    """Everything that is left waits for something that is left: a walk upstream comes round in the end."""
    walk = [min(left)]
    while (step := min(left[walk[-1]])) not in walk:
        walk.append(step)
    return [*walk[walk.index(step) :], step]


def _shortened(ring: list[str]) -> list[str]:
    more = len(ring) - 1 - LONGEST_RING  # its first job is also its last
    return ring if more <= 0 else [*ring[: LONGEST_RING - 1], f"… {more} more …", *ring[-2:]]


def _name(params: EnqueueParams) -> str:
    return str(getattr(params.func, "__qualname__", params.func))
