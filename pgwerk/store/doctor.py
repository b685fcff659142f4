from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgwerk.store.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.wire import Call, Row

PAGE = 5000


class Place(NamedTuple):
    """In the scan of what is queued; as it stands, before the first."""

    queue: str = ""
    priority: int = -(2**15)
    seq: int = -(2**63)


class Shape(NamedTuple):
    """Of a call, as far as it decides whether it can be made."""

    function: str
    is_callback: bool
    positional: int | None
    names: tuple[str, ...] | None
    payload: bytes | None
    """In place of both: only the app's serializer can read it."""


class Shaped(NamedTuple):
    shape: Shape
    jobs: int
    ids: list[int]
    """The first of them."""


class DoctorStore(Catalogue):
    def queued_page(self, behind: Place) -> Call[tuple[list[int], Place | None]]:
        """Jobs, and where the page ends."""
        return self._call("queued_page", _page, **behind._asdict(), page=PAGE)

    def unqueued_page(self, after: int) -> Call[list[int]]:
        return self._call("unqueued_page", lambda rows: [row["job_id"] for row in rows], after=after, page=PAGE)

    def shapes(self, ids: Sequence[int]) -> Call[list[Shaped]]:
        return self._call("shapes", lambda rows: list(map(_shaped, rows)), ids=list(ids))


def _page(rows: list[Row]) -> tuple[list[int], Place | None]:
    last = Place(*(rows[-1][name] for name in Place._fields)) if rows else None
    return [row["job_id"] for row in rows], last


def _shaped(row: Row) -> Shaped:
    names = None if row["names"] is None else tuple(row["names"])
    shape = Shape(row["function"], row["is_callback"], row["positional"], names, row["payload"])
    return Shaped(shape, row["jobs"], row["ids"])
