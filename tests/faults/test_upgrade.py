"""From each earlier version of the schema to the newest, with jobs in every state, under load: nothing is lost. The old
code is the real one, from the repository's history, and its workers run beside the new ones where the migrations say
that they serve them. A new migration is found by its file; PGWERK_TEST_UPGRADE is how many jobs are under way.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from contextlib import ExitStack
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import migrate
from pgwerk.db import Database
from pgwerk.sql import migrations
from tests.db.race import ROOMS, misplaced
from tests.postgres import wait_until
from tests.workplace import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgwerk.sql import Migration

JOBS = int(os.environ.get("PGWERK_TEST_UPGRADE", "40"))
CHAINS, LINKS = 3, JOBS
ALL = migrations("pgwerk")
LATER = ALL[1:] if "PGWERK_TEST_UPGRADE" in os.environ else (ALL[1], ALL[-1])  # in short: the longest way and the last
UNSOUND = re.compile(r"\b(ERROR|CRITICAL|does not exist|violates|deadlock|could not be)\b")
SHARED = """
    select c.relname, string_agg(quote_ident(o.attname), ', ')
    from pg_class c
    join pg_class d on d.relname = c.relname and d.relkind = 'r'
    join pg_attribute o on o.attrelid = c.oid and o.attnum > 0 and not o.attisdropped
    join pg_attribute n on n.attrelid = d.oid and n.attname = o.attname and not n.attisdropped
    where c.relkind = 'r' and c.relnamespace = %s::regnamespace and d.relnamespace = %s::regnamespace
        and c.relname <> 'migration'
    group by 1
"""
SHOP = """
import asyncio
from pgwerk import Retry, Werk
app = Werk()  # of PGWERK_DSN and PGWERK_SCHEMA

async def square(number):
    return number * number

async def fail():
    raise ValueError("on purpose")

async def again(ctx):
    if ctx.job.attempts == 1:
        raise ValueError("the first attempt fails")

async def hang(ctx):
    if ctx.job.attempts == 1:
        await asyncio.sleep(3600)

async def chain(ctx, links):
    if links:
        await ctx.app.enqueue(chain, links - 1, _key=f"{ctx.job.id} goes on")

async def told(ctx):
    return ctx.job.status

async def seed(jobs, hangs):
    async with app:
        for number in range(jobs // 10):
            await app.enqueue(square, number)
            await app.enqueue(square, number, _delay=3600, _priority=number % 3)
            await app.enqueue(again, _retry=Retry(3, 3600), _key=f"key {number}", _meta={"number": number})
            await app.enqueue(fail, _retry=1)
        await app.cancel_job(await app.enqueue(square, 1, _delay=3600))
        for _ in range(hangs):
            await app.enqueue(hang, _retry=3)

async def seed_what_came_later(jobs, hangs):
    from pgwerk import Callback, Dependency, Repeat
    async with app:
        for _ in range(hangs):
            await app.enqueue(hang, _group="g0", _priority=9, _retry=3, _heartbeat=60)
        for number in range(jobs // 10):
            await app.enqueue(square, number, _group=f"g{number % 3}", _on_success=told)
            first = await app.enqueue(again, _delay=3600, _retry=Retry(2, 0), _on_stopped=Callback(told, timeout=5))
            await app.enqueue(square, number, _depends_on=[first, Dependency(first, allow_failure=True)])
            await app.enqueue(square, number, _repeat=Repeat(2), _result_ttl=86400)
            await app.enqueue(fail, _on_failure=told, _failure_ttl=86400)

async def load(chains, links):
    async with app:
        for number in range(chains):
            await app.enqueue(chain, links)
"""


class Code:
    """A version of pgwerk that runs in processes of its own."""

    def __init__(self, tree: Path, folder: Path, dsn: str, schema: str) -> None:
        self._folder = folder
        self._environment = os.environ | {
            "PYTHONPATH": str(tree), "PGWERK_DSN": dsn, "PGWERK_SCHEMA": schema,
            "PGWERK_HEARTBEAT_INTERVAL": "1.5", "PGWERK_SWEEP_INTERVAL": "0.5", "PGWERK_POLL_INTERVAL": "0.5",
        }  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=self._folder, env=self._environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    def shop(self, function: str, *arguments: int) -> None:
        done = self.run("-c", f"import asyncio, shop; asyncio.run(shop.{function}(*{arguments}))")
        assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def worker(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Its log must hold no error in the end."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pgwerk", "worker", "shop:app"], cwd=self._folder, env=self._environment,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
            process.terminate()
            assert process.wait(40) in (0, -signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
        assert [line for line in log.read_text().splitlines() if UNSOUND.search(line)] == []


def serves(version: int) -> bool:
    """Whether code of that version goes on working on the newest schema."""
    return all(migrate._serves(each) <= version for each in ALL)


def code_before(migration: Migration, folder: Path) -> Path | None:
    """The tree as it was before that migration came; the newest, if it is not committed yet. None where an earlier
    migration was rewritten since, before it was released: nobody has that code.
    """
    path = f"pgwerk/sql/migrations/{migration.name}.sql"
    added = _git("log", "--diff-filter=A", "--no-renames", "--format=%H", "--", path).decode().split()
    packed = _git("archive", "--format=zip", f"{added[0]}^" if added else "HEAD", "pgwerk")
    with zipfile.ZipFile(BytesIO(packed)) as archive:
        archive.extractall(folder)
    names = [f"pgwerk/sql/migrations/{each.name}.sql" for each in ALL[: migration.version - 1]]
    is_todays = all(
        (folder / name).exists() and filecmp.cmp(folder / name, ROOT / name, shallow=False) for name in names
    )
    return folder if is_todays else None


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"the old code is in the repository's history, which git cannot read: {done.stderr!r}")
    return done.stdout


@pytest.fixture(params=LATER, ids=lambda migration: f"before-{migration.name}")
def later(request: pytest.FixtureRequest) -> Migration:
    """The first migration that the old code does not know."""
    migration: Migration = request.param
    return migration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/shop.py").write_text(SHOP)
    return tmp_path / "shop"


@pytest.fixture
async def old_schema(later: Migration, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As it was before that migration, with jobs in every state that it knows."""
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "migrations", lambda name: migrations(name)[: later.version - 1])
        await migrate.migrate(Database(dsn, schema))
    return schema


async def test_nothing_is_lost_on_the_way_to_the_newest(
    later: Migration, folder: Path, tmp_path: Path, dsn: str, old_schema: str, query: Any
) -> None:
    knows_groups, tree = later.version > 2, code_before(later, tmp_path / "old")
    is_served = tree is not None and serves(later.version - 1)
    make_states(Code(ROOT, folder, dsn, f"{old_schema}_new"), query, old_schema, knows_groups=knows_groups)
    seeded = query("select id from job")
    new = Code(ROOT, folder, dsn, old_schema)
    with ExitStack() as stack:
        if tree is not None and is_served:
            old = Code(tree, folder, dsn, old_schema)
            stack.enter_context(old.worker("old"))
            old.shop("load", CHAINS, LINKS)
        migrated = await migrate.migrate(Database(dsn, old_schema))
        assert [each.version for each in migrated] == [each.version for each in ALL if each.version >= later.version]
        stack.enter_context(new.worker("new"))
        new.shop("load", CHAINS, LINKS)
        if is_served:
            old.shop("load", CHAINS, LINKS)
        wait_until(lambda: has_drained(query), "every job has ended", max(90, JOBS))
    assert set(seeded) <= set(query("select job_id from finished"))
    assert misplaced(query) == []
    found = query("select function, status, count(*) from finished join job on job.id = job_id group by 1, 2")
    assert {(function, status): count for function, status, count in found} == ends(
        loads=3 if is_served else 1, knows_groups=knows_groups
    )


def make_states(code: Code, query: Any, old_schema: str, *, knows_groups: bool) -> None:
    """Some have ended in each way, some wait for a retry, one is held by a worker that died, some stand untouched. They
    are made by today's code, in a schema of its own, and what the old one has columns for is copied.
    """
    new_schema = f"{old_schema}_new"
    seeds = ["seed", "seed_what_came_later"] if knows_groups else ["seed"]
    assert code.run("-m", "pgwerk", "migrate").returncode == 0
    query(f"set search_path to {new_schema}")
    for seed in seeds:
        code.shop(seed, JOBS, 1)
    with code.worker("first") as worker:
        held = (
            "select array_agg(function::text), (select count(*) from ready),"
            " (select count(*) from scheduled where due < now() + interval '1 minute')"  # the next runs of a series
            " from active join job on job.id = job_id"
        )
        wait_until(lambda: query(held) == [(["shop.hang"] * len(seeds), 0, 0)], "only those that hang are left")
        worker.kill()
    for seed in seeds:
        code.shop(seed, JOBS, 0)
    for table, columns in query(SHARED, old_schema, new_schema):
        query(f"insert into {old_schema}.{table} ({columns}) select {columns} from {new_schema}.{table}")
    for (sequence,) in query(
        "select relname from pg_class where relkind = 'S' and relnamespace = %s::regnamespace", old_schema
    ):
        query(f"select setval('{old_schema}.{sequence}', last_value) from {new_schema}.{sequence}")
    query(f"set search_path to {old_schema}")
    rooms = [room for room in (*ROOMS, "attempt") if query("select to_regclass(%s)", room) != [(None,)]]
    assert [room for room in rooms if query(f"select count(*) from {room}") == [(0,)]] == []
    query(f"drop schema {new_schema} cascade")


def has_drained(query: Any) -> bool:
    """Once the time of what is to run later has come."""
    query("update scheduled set due = now() where due > now()")
    found: list[tuple[int]] = query("select count(*) from job where id not in (select job_id from finished)")
    return found == [(0,)]


def ends(*, loads: int, knows_groups: bool) -> Counter[tuple[str, str]]:
    """How many jobs of the shop end how: two seeds, of which the second finds its keys taken."""
    some = JOBS // 10
    found = Counter({
        ("shop.square", "complete"): 4 * some, ("shop.square", "aborted"): 2, ("shop.again", "complete"): some,
        ("shop.fail", "failed"): 2 * some, ("shop.hang", "complete"): 1,
        ("shop.chain", "complete"): loads * CHAINS * (LINKS + 1),
    })  # fmt: skip
    if knows_groups:
        found += Counter({
            ("shop.square", "complete"): 10 * some, ("shop.again", "complete"): 2 * some,
            ("shop.fail", "failed"): 2 * some, ("shop.told", "complete"): 4 * some, ("shop.hang", "complete"): 1,
        })  # fmt: skip
    return found
