"""The pages of the documentation that are made: `python -m tests.docs` writes them, a test compares them."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgwerk.cli import commands
from pgwerk.cli.exits import Exit
from pgwerk.cli.settings import shown
from pgwerk.cli.target import APP, PROJECT
from pgwerk.config import WerkConfig, environ_name
from pgwerk.doctor import CHECKS, name_of
from tests.shell import every_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DOCS = Path(__file__).parent.parent / "docs"
SETTINGS = DOCS / "settings.md"
CLI = DOCS / "cli.md"
WHICH_APP = {"named", "dsn", "schema"}  # options that nearly every command has: the page says them once


def settings_page() -> str:
    rows = "\n".join(
        f"| `{setting.name}` | `{environ_name(setting.name)}` | {shown(setting.default)} | {_about(setting.metadata)} |"
        for setting in fields(WerkConfig)
    )
    return f"""# Settings

What a program gives to `WerkConfig`, `Werk` or a worker beats the environment, which beats the default; what `werk` is
given on the command line (`--concurrency 5` for `concurrency`) beats them all, and `--dsn` also the `pool` or `connect`
of an app. For `werk`, `dsn` and `schema` may stand in `[tool.pgwerk]` of the {PROJECT} in the current folder too,
below the environment.

| setting | environment | default | meaning |
|---|---|---|---|
{rows}
"""


def _about(metadata: Mapping[str, object]) -> str:
    choices = metadata["choices"]
    assert isinstance(choices, tuple)
    return str(metadata["text"]) + (f": {', '.join(map(str, choices))}" if choices else "")


def cli_page() -> str:
    codes = "\n".join(f"| {code.value} | {code.meaning} |" for code in Exit)
    sections = "\n".join(_section(" ".join(path), command) for path, command in every_command(commands, "werk"))
    checks = "\n".join(f"| {name_of(check)} | {check.__doc__} |" for check in CHECKS)
    return f"""# Commands

`werk COMMAND --help` says the same as this page, which is made from it.

Which app a command is about is said by `-a tasks:app` (a module and the app in it, found from the current folder too)
or `-a` with a DSN, else by `--dsn`, the environment ({APP}, {environ_name("dsn")}), or `app` or `dsn` in
`[tool.pgwerk]` of the {PROJECT} in the current folder. To say it twice, by `-a` with a DSN and by
`--dsn`, is refused. `--schema` is for one that is not called pgwerk.

In a terminal, lists are tables. In a pipe they are lines with tabs, without colours; `--json` is for programs. What
cannot be done is said in one line on stderr.

## Exit codes

| code | |
|--:|---|
{codes}

## Completion

One line in the shell's own start-up file, and the Tab key completes commands, options, states and queues:

| shell | |
|---|---|
| bash | `eval "$(_WERK_COMPLETE=bash_source werk)"` |
| zsh | `eval "$(_WERK_COMPLETE=zsh_source werk)"` |
| fish | `_WERK_COMPLETE=fish_source werk \\| source` |

{sections}
## What werk doctor looks at

A failure keeps jobs from running or makes them fail, and the exit code is 1; a warning will hurt some day. What the
role may not look at is a warning that says so.

| check | is well if |
|---|---|
{checks}
"""


def _section(path: str, command: click.Command) -> str:
    arguments = [
        each.metavar or (each.name or "").upper() for each in command.params if isinstance(each, click.Argument)
    ]
    names = {each.name for each in command.params}
    said = WHICH_APP if names >= WHICH_APP else set()
    options = [each for each in command.params if isinstance(each, click.Option) and each.name not in said]
    usage = " ".join([path, *(["[OPTIONS]"] if command.params else []), *arguments])
    return f"## {path}\n\n`{usage}`\n\n{inspect.cleandoc(command.help or '')}\n{_table(options)}"


def _table(options: Iterable[click.Option]) -> str:
    rows = [f"| `{_names(option)}` | {_meaning(option)} |" for option in options]
    return "\n".join(["", "| option | |", "|---|---|", *rows, ""]) if rows else ""


def _names(option: click.Option) -> str:
    names = ", ".join([*reversed(option.opts), *option.secondary_opts])
    is_choice = isinstance(option.type, click.Choice)
    value = option.metavar or str(option.name if is_choice else option.type.name).upper().split()[0]
    return names if option.is_flag else f"{names} {value}"


def _meaning(option: click.Option) -> str:
    choices = ", ".join(option.type.choices) if isinstance(option.type, click.Choice) else ""
    default = f"[default: {option.default}]" if option.show_default else ""
    words = (option.help or "").replace("|", "\\|").split()
    return " ".join([*words, *([f"({choices})"] if choices else []), *([default] if default else [])])


PAGES = {SETTINGS: settings_page, CLI: cli_page}

if __name__ == "__main__":
    for file, page in PAGES.items():
        file.write_text(page())
        print(f"{file} is written")
