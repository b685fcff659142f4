"""The app that `module:attribute` names."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pgwerk.app import Werk
from pgwerk.errors import InvalidOption, InvalidType, brief
from pgwerk.signals import Leaving

if TYPE_CHECKING:
    from types import ModuleType


def find_app(path: str) -> Werk:
    """Imported, if need be from the current folder."""
    module, attribute = parts_of(path)
    found: object = import_from_here(module, path)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise InvalidOption(f"{module} has no {attribute}, looked for as {path}; is that the app's name there?")
        found = getattr(found, name)
    if not isinstance(found, Werk):
        raise InvalidType(f"{path} is no Werk, it is {brief(found)}; name the app itself")
    return found


def parts_of(path: str) -> tuple[str, str]:
    module, _, attribute = path.partition(":")
    if "//" in path or "@" in path:
        raise InvalidOption("an app is named module:attribute, like tasks:app, and that is a DSN; give it as --dsn")
    if not module or not attribute or module.startswith("."):
        raise InvalidOption(f"an app is named module:attribute, like tasks:app, got {brief(path)}")
    return module, attribute


def look_here() -> str:
    """Modules are found in the current folder too, as `python -m` finds them."""
    folder = str(Path.cwd())
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    return folder


def import_from_here(module: str, path: str) -> ModuleType:
    """`path` is what it was asked for as."""
    folder = look_here()
    try:
        return importlib.import_module(module)
    except Leaving:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise InvalidOption(
                f"there is no module {error.name} in {folder} or on sys.path, looked for as {path}"
            ) from error
        raise InvalidOption(f"importing {module} failed{_place(error)}: {type(error).__name__}: {error}") from error


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:  # it was raised by Python, over the user's line
        return f" at {error.filename}:{error.lineno}"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<frozen ")]
    return f" at {frames[-1].filename}:{frames[-1].lineno}"
