"""`werk check`: before a deploy, which of the jobs that wait would fail with the code that is here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import AsyncWorker, EnqueueParams, PickleSerializer, Werk
from pgwerk.fitting import fit
from pgwerk.handlers import Handler, find
from pgwerk.store import doctor
from tests import handlers
from tests.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path

    from pgwerk.allow import Allowed
    from pgwerk.store.doctor import Shaped
    from pgwerk.wire import Call

TASKS = """
from pgwerk import Context, Werk

app = Werk()

def charge(order, *, note=""):
    pass

async def ship(ctx: Context, order):
    pass

def told(ctx):
    pass
"""
CHANGED = TASKS.replace("charge(order, *,", "charge(order, currency, *,").replace("def ship(", "def send(")
CHANGED = CHANGED.replace("def told(ctx)", "def told()")
BROKEN = TASKS + "\nimport nowhere_to_be_found"


@pytest.fixture
def project(shell: Shell) -> Shell:
    """A folder with an app's code, and jobs that were enqueued by it, in every state before the start."""
    _write(shell, TASKS)
    for arguments in ('{"order": 1}', '{"order": 2, "note": "n"}', "[3]", '[4, {"note": 1}]'):
        shell.says("enqueue", "shop.charge", arguments)
    shell.says("enqueue", "shop.charge", "[5]", "--delay", "3600")
    for _ in range(2):
        shell.says("enqueue", "shop.ship", "[6]", "--group", "g", "--queue", "q")
    return shell


def _write(shell: Shell, text: str) -> None:
    (shell.folder / "shop.py").write_text(text)


def misfits(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    ran = shell.run("check", "--json", *arguments)
    found = json.loads(ran.stdout)
    assert ran.returncode == (1 if found["misfits"] else 0), ran.stderr
    assert ran.stderr == ""
    listed: list[dict[str, Any]] = found["misfits"]
    return listed


def test_only_what_does_not_fit_is_listed(project: Shell) -> None:
    (found,) = misfits(project, "shop")
    assert found == {
        "function": "shop.charge", "jobs": 1, "ids": [4], "is_missing": False, "is_callback": False, "schedule": None,
        "reason": "the arguments do not fit shop.charge(order, *, note=''): too many positional arguments",
    }  # fmt: skip
    project.says("cancel", "4")
    assert (
        project.says("check", "-a", "shop:app")
        == "6 jobs that have not started, 0 schedules: all of them fit the code here\n"
    )


def test_code_that_has_changed_no_longer_fits(project: Shell) -> None:
    project.says("cancel", "4")
    _write(project, CHANGED)
    charge, ship = misfits(project)[0], misfits(project)[-1]
    assert (charge["function"], charge["reason"]) == (
        "shop.charge",
        "the arguments do not fit shop.charge(order, currency, *, note=''): missing a required argument: 'currency'",
    )
    assert (charge["jobs"], charge["ids"]) == (4, [1, 2, 3])
    assert (ship["jobs"], ship["ids"], ship["is_missing"]) == (2, [6, 7], True)
    assert "shop has no ship" in ship["reason"]


def test_a_pipe_gets_lines(project: Shell) -> None:
    ran = project.run("check")
    assert ran.returncode == 1
    assert [line.split("\t")[:2] for line in ran.stdout.splitlines()] == [["function", "jobs"], ["shop.charge", "1"]]


def test_code_that_cannot_be_imported_fits_nothing(project: Shell) -> None:
    _write(project, BROKEN)
    assert {each["function"]: each["is_missing"] for each in misfits(project)} == {
        "shop.charge": True,
        "shop.ship": True,
    }
    assert "nowhere_to_be_found" in project.refuses("check", "shop")
    assert "there is no module shopp" in project.refuses("check", "shopp")


def test_a_check_migrates_nothing(own_dsn: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, own_dsn)
    for _ in range(2):
        assert "has no schema 'pgwerk' of pgwerk yet; run werk migrate" in shell.refuses("check")


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PAGE", 3)


@pytest.mark.usefixtures("small_pages")
async def test_every_room_is_looked_into_page_by_page(app: Werk, query: Any) -> None:
    first = await app.enqueue("m.gone", _queue="other", _priority=3)
    await app.enqueue_many([EnqueueParams(handlers.square, [1], priority=n % 3) for n in range(10)])
    for options in ({"_delay": 60}, {"_depends_on": first}, {"_queue": "q"}):
        for _ in range(5):
            await app.enqueue("m.gone", **options)
    for _ in range(4):  # all but one are parked, and none can run
        await app.enqueue("tests.handlers.square", _group="g", _queue="groups")
    query("insert into active (job_id, worker_id, claim_no, attempt, group_key) values (999, 77, 1, 1, 'g')")
    query("insert into worker (id, name, kind, queues, concurrency, patience) values (77, 'w', 'w', '{x}', 1, 99)")
    await AsyncWorker(app, ["groups"], burst=True).run()
    assert query("select count(*) from blocked") == [(4,)]
    fitting = await fit(app.database, app.serializer, None)
    assert fitting.jobs == 1 + 10 + 15 + 4
    assert [(each.function, each.jobs, len(each.ids)) for each in fitting.misfits] == [
        ("m.gone", 16, 3), ("tests.handlers.square", 4, 3),
    ]  # fmt: skip


@pytest.mark.usefixtures("small_pages")
async def test_each_shape_is_tried_once(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def noted(path: str, allowed: Allowed) -> Handler:
        tried.append(path)
        return find(path, allowed)

    monkeypatch.setattr("pgwerk.fitting.find", noted)
    await app.enqueue_many([EnqueueParams("m.gone", [n]) for n in range(20)])
    await app.enqueue_many([EnqueueParams(handlers.square, kwargs={"number": n}) for n in range(20)])
    assert (await fit(app.database, app.serializer, None)).jobs == 40
    assert tried == ["m.gone", "tests.handlers.square"]


async def test_what_only_the_app_can_read_is_read_by_its_serializer(dsn: str, app: Werk, schema: str) -> None:
    async with Werk(dsn, schema=schema, serializer=PickleSerializer()) as pickling:
        await pickling.enqueue("tests.handlers.square", 2)
        await pickling.enqueue("tests.handlers.square", 2, 3)
        pickled = await fit(app.database, pickling.serializer, None)
    assert [(each.jobs, "too many positional" in each.reason) for each in pickled.misfits] == [(1, True)]
    plain = await fit(app.database, app.serializer, None)
    assert [(each.jobs, each.reason) for each in plain.misfits] == [
        (2, "the app's serializer cannot read its arguments")
    ]


async def test_payloads_are_read_a_few_at_once(
    dsn: str, schema: str, app: Werk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    opened = doctor.DoctorStore.opened

    def noted(store: doctor.DoctorStore, closed: Shaped, ids: list[int]) -> Call[list[Shaped]]:
        asked.append(ids)
        return opened(store, closed, ids)

    monkeypatch.setattr("pgwerk.fitting.OPENED", 2)
    monkeypatch.setattr(doctor.DoctorStore, "opened", noted)
    async with Werk(dsn, schema=schema, serializer=PickleSerializer()) as pickling:
        await pickling.enqueue_many([EnqueueParams("tests.handlers.square", [n] * (n % 2 + 1)) for n in range(5)])
        await app.enqueue("tests.handlers.square", 1)
        fitting = await fit(app.database, pickling.serializer, None)
    assert (fitting.jobs, [each.jobs for each in fitting.misfits]) == (6, [2])
    assert sorted(map(len, asked)) == [1, 2, 2]


async def test_a_callback_is_tried_as_it_is_called(app: Werk, query: Any) -> None:
    subject = await app.enqueue(handlers.noop)
    await app.enqueue_many([EnqueueParams(path) for path in ("tests.handlers.remember", "tests.handlers.noop")])
    assert (await fit(app.database, app.serializer, None)).misfits == []
    assert subject is not None
    query("update job set callback_of = %s where id > %s", subject.id, subject.id)
    (found,) = (await fit(app.database, app.serializer, None)).misfits
    assert found.reason == "a callback is called with ctx alone, which tests.handlers.noop() -> 'None' does not take"


async def test_callbacks_of_jobs_that_wait_are_tried_too(app: Werk) -> None:
    for _ in range(2):
        await app.enqueue(handlers.noop, _on_success="m.gone", _on_failure="tests.handlers.remember")
    await app.enqueue("m.gone", _on_stopped="m.gone")
    fitting = await fit(app.database, app.serializer, None)
    called_back, called = fitting.misfits
    assert (fitting.jobs, called_back.jobs, called.jobs) == (3, 3, 1)
    assert called_back.reason == f"called back at the job's end: {called.reason}"


async def test_schedules_are_tried_too(app: Werk) -> None:
    for path, arguments in (("tests.handlers.square", [2]), ("tests.handlers.square", []), ("m.gone", [])):
        await app.create_schedule(path, args=arguments, name=f"{path} {arguments}", interval=3600)
    fitting = await fit(app.database, app.serializer, None)
    assert (fitting.jobs, fitting.schedules) == (0, 3)
    gone, square = fitting.misfits
    assert (gone.function, gone.jobs, gone.is_missing) == ("m.gone", 0, True)
    assert square.reason.startswith("enqueued by the schedule 'tests.handlers.square []': the arguments do not fit")


async def test_what_is_not_allowed_does_not_fit(app: Werk) -> None:
    await app.enqueue("os.system", "true")
    (found,) = (await fit(app.database, app.serializer, ("tests.*",))).misfits
    assert found.is_missing
    assert "os.system is not allowed here, only tests.*" in found.reason
