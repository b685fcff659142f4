from __future__ import annotations

from typing import TYPE_CHECKING

from pgwerk.store.catalogue import Catalogue, as_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgwerk.execution import Outcome
    from pgwerk.wire import Call, Row


class EndingStore(Catalogue):
    def end(self, outcomes: Sequence[Outcome]) -> list[Call[set[int]]]:
        """What ends these attempts: a statement for the jobs that end with them, another for those that come back,
        each only where there are some. The answers: the jobs that were still where the outcome said.
        """
        back = [outcome for outcome in outcomes if outcome.returns]
        ended = [outcome for outcome in outcomes if not outcome.returns] if back else outcomes
        pairs = (("settle", ended), ("send_back", back))
        return [self._end(statement, some) for statement, some in pairs if some]

    def _end(self, statement: str, outcomes: Iterable[Outcome]) -> Call[set[int]]:
        """In the order of the jobs, so that those who end the same ones wait for each other and never in a ring."""
        rows = as_json([outcome.wire() for outcome in sorted(outcomes, key=_job)])
        return self._call(statement, _ids, outcomes=rows, channel=self.channel)


def _job(outcome: Outcome) -> int:
    return outcome.job_id


def _ids(rows: list[Row]) -> set[int]:
    return {row["job_id"] for row in rows}
