"""The command line's options for settings, made from the one list of them."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgwerk.allow import Allowed
from pgwerk.app import Werk
from pgwerk.config import HINTS, WerkConfig, as_list, environ_name

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

_NUMBER = (click.IntRange(min=1), "NUMBER")
_SECONDS = (click.FloatRange(min=0), "SECONDS")
_KINDS: dict[Any, tuple[click.ParamType[Any] | Callable[[str], Any], str | None]] = {
    bool: (click.BOOL, None),
    int: _NUMBER,
    int | None: _NUMBER,
    float: _SECONDS,
    float | None: _SECONDS,
    Allowed: (as_list, "PATHS"),
}


def setting_options(*names: str) -> Callable[[F], F]:
    """An option for each of these settings, or for all; None where the command line says nothing of it."""
    chosen = [setting for setting in fields(WerkConfig) if not names or setting.name in names]

    def decorate(command: F) -> F:
        for setting in reversed(chosen):
            command = _option(setting)(command)
        return command

    return decorate


def configure(app: Werk, settings: dict[str, Any]) -> None:
    """What the command line says beats the app's own settings, and a DSN its own connections too."""
    app.config = Werk(config=app.config.changed(**settings)).config  # a Werk refuses what cannot work
    if settings.get("dsn") is not None:
        app.connect_by_dsn()


def _option(setting: Field[Any]) -> Callable[[F], F]:
    flag, hint = setting.name.replace("_", "-"), HINTS[setting.name]
    declaration = f"--{flag}/--no-{flag}" if hint is bool else f"--{flag}"
    about = f"{setting.metadata['text']}  [default: {shown(setting.default)}; {environ_name(setting.name)}]"
    choices = setting.metadata["choices"]
    kind, metavar = (click.Choice([*map(str, choices)]), None) if choices else _KINDS.get(hint, (click.STRING, None))
    return click.option(declaration, type=kind, metavar=metavar, default=None, help=about)


def shown(default: object) -> str:
    match default:
        case None:
            return "unset"
        case bool():
            return "on" if default else "off"
        case _:
            return f"{default:g}" if isinstance(default, float) else str(default)
