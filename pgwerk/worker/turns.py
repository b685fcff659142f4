"""In which order a worker looks into its queues."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pgwerk.errors import InvalidOption, InvalidType, brief

if TYPE_CHECKING:
    from collections.abc import Sequence


class Turns:
    """By turns, or by chance; a weight says how often a queue comes first, relative to the others."""

    def __init__(self, queues: Mapping[str, float] | Sequence[str], *, by_chance: bool) -> None:
        weights = queues if isinstance(queues, Mapping) else dict.fromkeys(queues, 1.0)
        self._weights = {queue: _weight(queue, weight) for queue, weight in weights.items()}
        self._total = sum(self._weights.values())
        self._credit = dict.fromkeys(self._weights, 0.0)
        self._by_chance = by_chance

    @property
    def queues(self) -> list[str]:
        return list(self._weights)

    def next(self) -> dict[str, int]:
        """The place of each queue in the next order."""
        if len(self._weights) == 1:
            return dict.fromkeys(self._weights, 0)
        keys = self._chances() if self._by_chance else self._credits()
        return {queue: place for place, queue in enumerate(sorted(keys, key=keys.__getitem__, reverse=True))}

    def _chances(self) -> dict[str, float]:
        """The larger its weight, the nearer to 1: each place is then drawn by the weights of those left."""
        return {queue: random.random() ** (1 / weight) for queue, weight in self._weights.items()}  # noqa: S311

    def _credits(self) -> dict[str, float]:
        """Each gains its weight, and who comes first pays for all: smooth, and exactly in proportion."""
        for queue, weight in self._weights.items():
            self._credit[queue] += weight
        order = dict(self._credit)
        self._credit[max(order, key=order.__getitem__)] -= self._total
        return order


def _weight(queue: str, weight: object) -> float:
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        raise InvalidType(f"the weight of a queue is a number, got {brief(weight)} for {brief(queue)}")
    if not 0 < weight < math.inf:
        raise InvalidOption(f"the weight of a queue must be more than 0, got {brief(weight)} for {brief(queue)}")
    return float(weight)
