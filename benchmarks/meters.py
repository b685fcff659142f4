"""What a trial used: processor time of the server and of its clients, WAL, commits, bytes on disk, memory."""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

RUN = struct.Struct("dd")  # as in peers/adapter.py
TICKS = os.sysconf("SC_CLK_TCK")
PAGES = """
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
    WHERE relkind IN ('r', 'm') AND oid >= 16384
"""


@dataclass(frozen=True)
class Process:
    """As /proc has it."""

    id: int
    parent: int
    group: int
    seconds: float
    with_gone: float
    """The same and what its children used that have ended."""


def processes() -> Iterable[Process]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended in between
            used = [int(ticks) / TICKS for ticks in fields[11:15]]
            yield Process(int(folder.name), int(fields[1]), int(fields[2]), used[0] + used[1], sum(used))


def seconds_of_group(group: int) -> float:
    """Of a process that was started as the head of a group, and of all that it started."""
    return sum(each.seconds if each.id != group else each.with_gone for each in processes() if each.group == group)


def peak_memory(process: int) -> int:
    """Bytes."""
    (line,) = [each for each in Path(f"/proc/{process}/status").read_text().splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


class PostgresMeter:
    """Of a database on a server of this machine."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._head = next(each.parent for each in processes() if each.id == self._connection.info.backend_pid)

    def close(self) -> None:
        self._connection.close()

    def seconds(self) -> float:
        """Of the server: the backends that run, and through their parent those that have ended."""
        return sum(
            each.with_gone if each.id == self._head else each.seconds
            for each in processes()
            if self._head in (each.id, each.parent)
        )

    def wal(self) -> float:
        return float(self._value("SELECT pg_current_wal_insert_lsn() - '0/0'"))

    def commits(self) -> float:
        """Backends report theirs at most once a second, or when they end."""
        return float(self._value("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"))

    def bytes(self) -> float:
        return float(self._value(PAGES))

    def _value(self, query: str) -> Any:
        row = self._connection.execute(query).fetchone()
        return row[0] if row else None


class RedisMeter:
    """Of a server that does nothing else."""

    def __init__(self, process: int) -> None:
        self._process = process

    def close(self) -> None:
        pass

    def seconds(self) -> float:
        return next(each.seconds for each in processes() if each.id == self._process)

    def wal(self) -> float:
        return 0.0

    def commits(self) -> float:
        return 0.0

    def bytes(self) -> float:
        return 0.0


class Log:
    """The runs of a trial, as the handlers left them behind, in whatever process they ran."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"")
        self.complaints = path.with_suffix(".err").open("wb")
        """What the processes say beside their answers: of interest where something went wrong."""

    def close(self) -> None:
        self.complaints.close()

    def __len__(self) -> int:
        return self.path.stat().st_size // RUN.size

    def runs(self) -> list[tuple[float, float]]:
        """When each was enqueued (0: not said) and when it ran."""
        return list(RUN.iter_unpack(self.path.read_bytes()))
