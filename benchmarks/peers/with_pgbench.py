"""The same as raw SQL by asyncpg, said by pgbench, in prepared statements and without a word of Python.

It is the one beside the server's own binaries. It neither reads payloads nor runs jobs: a drain is claims of 100 and
their ends, each two statements, until nothing is left. Jobs in bulk are made by the server itself.
"""

import re
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from tempfile import NamedTemporaryFile

import uvloop
from adapter import TASKS, Figures, Producer, play
from with_raw import BATCH, CLAIM, ENQUEUE, SETTLE, Raw

ONE = ENQUEUE.replace("$1", "ARRAY['0.0']::text[]")
BULK = ENQUEUE.replace("$1", "(SELECT array_agg('0.0'::text) FROM generate_series(1, :jobs))")
IDS = ("SELECT id, payload", "SELECT array_agg(id)::text AS ids, max(id) AS last, count(payload)")
DRAIN = f"""{CLAIM.replace(*IDS).replace("$1", ":batch").replace("$2", ":last")} \\gset
{SETTLE.replace("$1", ":ids")};"""
PROGRAM = "SELECT setting || '/pgbench' FROM pg_config WHERE name = 'BINDIR'"
DONE = re.compile(r"actually processed: (\d+).*tps = ([\d.]+)", re.DOTALL)


class Pgbench(Producer):
    def __init__(self, raw: Raw) -> None:
        super().__init__(raw)
        self._raw = raw

    async def open(self) -> None:
        await super().open()
        self._program = await self._raw.pool.fetchval(PROGRAM)

    async def one_by_one(self, seconds: float) -> Figures:
        return await self._run(ONE, jobs=1, options=[f"-T{seconds:.0f}"])

    async def tasks(self, seconds: float) -> Figures:
        return await self._run(ONE, jobs=1, options=[f"-T{seconds:.0f}", f"-c{TASKS}"])

    async def bulk(self, jobs: int) -> Figures:
        return await self._run(BULK, jobs=jobs, options=["-t1", f"-Djobs={jobs}"])

    async def drain(self, jobs: int) -> Figures:
        return await self._run(DRAIN, jobs=BATCH, options=[f"-t{jobs // BATCH}", f"-Dbatch={BATCH}", "-Dlast=0"])

    async def _run(self, script: str, jobs: int, options: Sequence[str]) -> Figures:
        """Of so many jobs in a transaction; its seconds are without those of connecting."""
        with NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            command = [self._program, "-n", "-Mprepared", f"-f{file.name}", *options, self._raw.where]
            process = await create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
            said, complaints = await process.communicate()
        if not (done := DONE.search(said.decode())):
            raise RuntimeError(f"pgbench ended with status {process.returncode}: {complaints.decode()}")
        return {"jobs": jobs * int(done[1]), "seconds": int(done[1]) / float(done[2])}


if __name__ == "__main__":
    play(Raw, run=uvloop.run, producer=Pgbench)
