"""Where a trial takes place, how much it has to do, and what it gives."""

from dataclasses import dataclass

from harness import Inspector

Figures = dict[str, float]


@dataclass(frozen=True)
class Amounts:
    """Jobs."""

    singles: int = 200
    concurrent: int = 3_000
    bulk: int = 10_000
    drained: int = 20_000
    picked_up: int = 200
    applied: int = 100

    @classmethod
    def scaled(cls, scale: float) -> "Amounts":
        full = cls()
        return cls(*(max(5, round(each * scale)) for each in vars(full).values()))


@dataclass(frozen=True)
class Place:
    dsn: str
    inspector: Inspector
    jobs: Amounts
