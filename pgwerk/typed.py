"""JSON in which values come back as what they were."""

from __future__ import annotations

import base64
import dataclasses
import importlib
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from pgwerk.allow import Allowed, allows, checked
from pgwerk.errors import NotSerializable, brief
from pgwerk.serializers import JSONSerializer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TYPE, VALUE = "$type", "value"


class TypedJSONSerializer:
    """Datetimes, dates, times, timedeltas, UUIDs, Decimals, bytes, tuples, sets, enums, dataclasses, and dicts with
    keys of any of these come back as they were. What JSON knows itself stays plain and can be queried; the others
    become `{"$type": "uuid", "value": "…"}`.

    A row names the enums and dataclasses that are made from it, and their modules are imported: `allow` says which may
    be (`shop.*`), as with `Werk`.
    """

    def __init__(self, allow: Sequence[str] | None = None) -> None:
        self._json, self._allowed = JSONSerializer(), checked(allow)

    def dumps(self, value: Any) -> bytes:
        return self._json.dumps(_marked(value))

    def loads(self, text: str | bytes) -> Any:
        return _restored(orjson.loads(text), self._allowed)


_SIMPLE: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    date: ("date", date.isoformat, date.fromisoformat),
    time: ("time", time.isoformat, time.fromisoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds], lambda v: timedelta(*v)),
    UUID: ("uuid", str, UUID),
    Decimal: ("decimal", str, Decimal),
    bytes: ("bytes", lambda value: base64.b64encode(value).decode(), base64.b64decode),
}
_SEVERAL: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}
_PLAIN = (str, int, float, bool, type(None))


def _simple(read: Callable[[Any], Any], value: Any, _: Allowed) -> Any:
    return read(value)


def _several(kind: Callable[[Any], Any], items: list[Any], allowed: Allowed) -> Any:
    return kind(_restored(item, allowed) for item in items)


_READERS: dict[str, Callable[[Any, Allowed], Any]] = {
    **{name: partial(_simple, read) for name, _, read in _SIMPLE.values()},
    **{name: partial(_several, kind) for kind, name in _SEVERAL.items()},
    "dict": lambda value, allowed: {_restored(key, allowed): _restored(item, allowed) for key, item in value},
    "enum": lambda value, allowed: _class(value[0], Enum, allowed)[value[1]],
    "flags": lambda value, allowed: _class(value[0], Flag, allowed)(value[1]),
    "dataclass": lambda value, allowed: _rebuilt(value[0], value[1], allowed),
}


def _marked(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [_marked(item) for item in value]
    if kind is dict:
        return _marked_dict(value)
    if kind in _SIMPLE:
        name, write, _ = _SIMPLE[kind]
        return {TYPE: name, VALUE: write(value)}
    if kind in _SEVERAL:
        return {TYPE: _SEVERAL[kind], VALUE: [_marked(item) for item in value]}
    if isinstance(value, Flag) and value.name not in kind.__members__:  # none, or several of them: only a number
        return {TYPE: "flags", VALUE: [_path(kind), value.value]}
    if isinstance(value, Enum):
        return {TYPE: "enum", VALUE: [_path(kind), value.name]}
    if dataclasses.is_dataclass(value):
        parts = {field.name: _marked(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {TYPE: "dataclass", VALUE: [_path(kind), parts]}
    raise NotSerializable(f"a {kind.__qualname__} has no form in typed JSON, got {brief(value)}")


def _marked_dict(value: dict[Any, Any]) -> Any:
    """One with other keys than texts, or that looks like a mark itself, is written as pairs."""
    if all(type(key) is str for key in value) and TYPE not in value:
        return {key: _marked(item) for key, item in value.items()}
    return {TYPE: "dict", VALUE: [[_marked(key), _marked(item)] for key, item in value.items()]}


def _restored(value: Any, allowed: Allowed) -> Any:
    if type(value) is list:
        return [_restored(item, allowed) for item in value]
    if type(value) is not dict:
        return value
    if TYPE not in value:
        return {key: _restored(item, allowed) for key, item in value.items()}
    read = _READERS.get(value[TYPE])
    if read is None:
        raise NotSerializable(f"typed JSON knows no type {brief(value[TYPE])}; was it written by a newer version?")
    return read(value[VALUE], allowed)


def _path(kind: type) -> str:
    if "<" in kind.__qualname__:
        raise NotSerializable(
            f"{kind.__qualname__} is local and could not be found again; make it a module-level class"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _rebuilt(path: str, parts: dict[str, Any], allowed: Allowed) -> Any:
    """As it was, without running its constructor again."""
    kind: type[Any] = _class(path, object, allowed)
    if not hasattr(kind, "__dataclass_fields__"):
        raise NotSerializable(f"{path} is no dataclass, and nothing else is made from a row")
    found = object.__new__(kind)
    for name, item in parts.items():
        object.__setattr__(found, name, _restored(item, allowed))
    return found


def _class(path: str, parent: type[Any], allowed: Allowed) -> Any:
    """Only classes that are enums or dataclasses are ever made from what a row says."""
    _check_allowed(path, allowed)
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    if not isinstance(found, type) or not issubclass(found, parent):
        raise NotSerializable(f"{path} is not the class that it was when it was written")
    _check_allowed(_path(found), allowed)  # what an allowed module has merely imported is not allowed either
    return found


def _check_allowed(path: str, allowed: Allowed) -> None:
    if allowed is not None and not allows(allowed, path.replace(":", ".")):
        raise NotSerializable(f"the class {path} is not allowed here, only {', '.join(allowed)}")
