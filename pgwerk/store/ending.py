from __future__ import annotations

from typing import TYPE_CHECKING

from pgwerk.store.catalogue import Catalogue, as_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgwerk.db import Call, Row
    from pgwerk.execution import Outcome


class EndingStore(Catalogue):
    def settle(self, outcomes: Iterable[Outcome]) -> Call[set[int]]:
        """The answer: the jobs that were still where the outcome said. In the order of the jobs, so that those who
        end the same ones wait for each other and never in a ring."""
        rows = as_json([outcome.wire() for outcome in sorted(outcomes, key=_job)])
        return self._call("settle", _ids, outcomes=rows, channel=self.channel)


def _job(outcome: Outcome) -> int:
    return outcome.job_id


def _ids(rows: list[Row]) -> set[int]:
    return {row["job_id"] for row in rows}
