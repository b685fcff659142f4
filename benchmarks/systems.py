"""The systems that are measured beside each other: what each is made of, and how it is driven."""

import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness import HERE

SECONDS_TO_INSTALL = 600

# Each in an environment of its own, from the package index, in the versions that were the newest when this was written.
REQUIREMENTS = {
    "reference": ("pgwerk==0.1.26", "psycopg[binary]"),  # the binary driver is faster than what it asks for
    "procrastinate": ("procrastinate==3.10.0", "psycopg[binary]"),
    "pgqueuer": ("pgqueuer[asyncpg,psycopg]==1.6.0", "psycopg[binary]", "uvloop"),
    "chancy": ("chancy==0.26.0", "psycopg[binary]"),
    "saq": ("saq[postgres,redis,hiredis]==0.26.4", "psycopg[binary]", "uvloop"),
    "dbos": ("dbos==3.4.0",),
    "awa": ("awa-pg==0.6.9",),
    "dramatiq-pg": ("dramatiq-pg==0.12.0", "psycopg2-binary"),
    "huey": ("huey==3.5.4", "peewee", "psycopg2-binary"),
    "arq": ("arq==0.28.0", "hiredis", "uvloop"),
    "rq": ("rq==3.0.0", "hiredis"),
    "dramatiq": ("dramatiq[redis]==2.2.1", "hiredis"),
    "celery": ("celery[redis]==5.7.0", "hiredis"),
    "raw": ("asyncpg==0.32.0", "uvloop"),
}


@dataclass(frozen=True)
class System:
    name: str
    adapter: str
    environment: str = ""
    """Of `REQUIREMENTS`; none is the interpreter of this benchmark, with this pgwerk."""

    variables: Mapping[str, str] = field(default_factory=dict)
    on_redis: bool = False
    has_worker: bool = True
    is_limit: bool = False
    """No queue, but what a queue cannot be faster than."""

    is_deep: bool = True
    """Its worker is measured with a full database, too; a minute and more."""

    remark: str = ""

    @property
    def works_on_postgres(self) -> bool:
        return self.has_worker and not self.on_redis

    @property
    def python(self) -> str:
        return str(HERE / ".venvs" / self.environment / "bin/python") if self.environment else sys.executable

    def command(self, role: str, where: str, *more: str) -> list[str]:
        return [self.python, str(HERE / "peers" / f"{self.adapter}.py"), role, where, *more]

    def surroundings(self, log: str) -> dict[str, str]:
        """Without what might lead a peer to this pgwerk."""
        mine = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or not self.environment}
        return {**mine, "BENCH_LOG": log, **self.variables}


SYSTEMS = (
    System("pgwerk", "with_pgwerk"),
    System("pgwerk, own pool", "with_pgwerk", variables={"BENCH_POOL": "1"}, has_worker=False),
    System("pgwerk 0.1.26", "with_pgwerk", "reference", {"BENCH_REFERENCE": "1"}),
    System("procrastinate", "with_procrastinate", "procrastinate"),
    System(
        "pgqueuer (asyncpg)",
        "with_pgqueuer",
        "pgqueuer",
        remark="its batch is as large as the jobs at once: a limit of its own has to be at least twice its batch",
    ),
    System(
        "pgqueuer (psycopg)",
        "with_pgqueuer",
        "pgqueuer",
        {"BENCH_DRIVER": "psycopg"},
        is_deep=False,
        remark="its listener holds the one connection between batches; beside backlogs it is as with asyncpg",
    ),
    System(
        "chancy",
        "with_chancy",
        "chancy",
        is_deep=False,
        remark="a backlog is taken at 100 jobs a second whatever is said, so it is not measured beside others",
    ),
    System("saq (Postgres)", "with_saq", "saq"),
    System("dbos", "with_dbos", "dbos"),
    System(
        "awa", "with_awa", "awa", remark="no backlogs: its jobs stand in rings of partitions, which SQL cannot fill"
    ),
    System(
        "dramatiq-pg",
        "with_dramatiq_pg",
        "dramatiq-pg",
        remark="no priorities: what is queued behind stands in another queue; delayed jobs are in its workers' memory",
    ),
    System("huey (Postgres)", "with_huey", "huey", remark="keeps nothing of a job that is done"),
    System("saq (Redis)", "with_saq", "saq", on_redis=True),
    System("arq", "with_arq", "arq", on_redis=True),
    System("rq", "with_rq", "rq", on_redis=True, remark="one job at a time in a process"),
    System("dramatiq (Redis)", "with_dramatiq", "dramatiq", on_redis=True),
    System("celery (Redis)", "with_celery", "celery", on_redis=True),
    System("raw SQL (asyncpg)", "with_raw", "raw", is_limit=True, remark="the same moves, batches of 100, no queue"),
    System(
        "raw SQL (pgbench)",
        "with_pgbench",
        "raw",
        has_worker=False,
        is_limit=True,
        remark="the same statements; what is enqueued in bulk is made by the server itself",
    ),
)


def prepare(environment: str) -> None:
    """Make the environment, unless it is there with the same requirements."""
    stamp = HERE / ".venvs" / environment / "installed.txt"
    wanted = "\n".join(REQUIREMENTS[environment])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {environment}", flush=True)
    venv.create(stamp.parent, clear=True, with_pip=True)
    pip = [str(stamp.parent / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *REQUIREMENTS[environment]], check=True, timeout=SECONDS_TO_INSTALL)
    stamp.write_text(wanted)
