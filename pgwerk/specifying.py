"""What the database reads of a job, and everything that is refused before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from pgwerk import checks
from pgwerk.dependencies import Edges, edges
from pgwerk.errors import InvalidOption, InvalidType, NotSerializable, brief
from pgwerk.handlers import Handler, handler_of
from pgwerk.params import CALLBACKS, OPTIONS, Callback, EnqueueParams, FailureMode, Options, Repeat, Retry
from pgwerk.serializers import LARGEST, JSONSerializer, bounded, plain_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from pgwerk.allow import Allowed
    from pgwerk.checks import Seconds
    from pgwerk.serializers import Serializer

T = TypeVar("T")


class Spec(NamedTuple):
    """A job that can be written."""

    columns: Mapping[str, Any]
    """What the database reads, but for the payload, and without what is null. Jobs that are alike share it."""

    text: bytes
    """The payload as it is stored."""

    payload: dict[str, Any]
    meta: dict[str, Any] | None


class Run(NamedTuple):
    """Jobs in a row that differ by nothing but their payloads."""

    columns: Mapping[str, Any]
    text: bytes
    """The payloads as they are stored, with commas between them."""

    payloads: Sequence[dict[str, Any]]
    meta: dict[str, Any] | None


def specify(params: EnqueueParams, serializer: Serializer, allowed: Allowed = None) -> Spec:
    (spec,) = specify_all([params], serializer, allowed)
    return spec


def specify_all(params: Iterable[EnqueueParams], serializer: Serializer, allowed: Allowed = None) -> list[Spec]:
    """Everything about jobs that can be known to be wrong is found here, before anything is written. A job may depend
    on another one of the call, named by its `EnqueueParams`.
    """
    several = list(params)
    for each in several:
        if not isinstance(each, EnqueueParams):
            raise InvalidType(f"a job to enqueue is an EnqueueParams, got {brief(each)}")
    is_tied = any(each.depends_on is not None for each in several)
    tied = edges(several) if is_tied else [None] * len(several)
    return [_specify(each, serializer, on, allowed) for each, on in zip(several, tied, strict=True)]


def specify_runs(params: Sequence[EnqueueParams], serializer: Serializer, allowed: Allowed = None) -> list[Run]:
    """The same for plain jobs, with less for each of them."""
    payloads = [_arguments(each) for each in params]
    runs, end = [], 0
    for columns, alike in groupby(list(_columns_in_turn(params, allowed))):
        start, end = end, end + sum(1 for _ in alike)
        some = payloads[start:end]
        runs.append(Run(columns, _payloads(some, serializer), some, params[start].meta))
    return runs


def _columns_in_turn(params: Iterable[EnqueueParams], allowed: Allowed) -> Iterator[Mapping[str, Any]]:
    """Neighbours that chose the very same objects share what these mean."""
    last: tuple[Any, ...] | None = None
    for each in params:
        function = _function(each, allowed)
        asked = (function, *_chosen(each))
        if last is None or not all(map(is_, asked, last)):
            last, columns = asked, _columns(each, function, None, allowed)
        yield columns


def is_plain(params: object) -> bool:
    """A job of which nothing has to be known before it can be written."""
    return isinstance(params, EnqueueParams) and _needing(params) == _NEEDING_NOTHING


def _specify(params: EnqueueParams, serializer: Serializer, depends_on: Edges | None, allowed: Allowed) -> Spec:
    payload, columns = _arguments(params), _columns(params, _function(params, allowed), depends_on, allowed)
    return Spec(columns, _payload(payload, serializer), payload, params.meta)


def _columns(params: EnqueueParams, function: str, depends_on: Edges | None, allowed: Allowed) -> Mapping[str, Any]:
    if all(map(is_, _chosen(params), _UNCHOSEN)):
        return _plain(function)
    return {"function": function, **_chosen_columns(params, depends_on, allowed)}


def _chosen_columns(params: Options, depends_on: Edges | None = None, allowed: Allowed = None) -> dict[str, Any]:
    """What the options are in the database; what was not said has no column."""
    retry = params.retry if isinstance(params.retry, Retry) else checks.attempts("_retry", params.retry)
    columns = {
        "queue": checks.name("_queue", params.queue),
        "priority": checks.priority(params.priority),
        "key": _given(checks.name, "_key", params.key),
        "group_key": _given(checks.name, "_group", params.group),
        "meta": None if params.meta is None else orjson.Fragment(checks.meta("_meta", params.meta)),
        "max_attempts": retry.max if isinstance(retry, Retry) else retry,
        "retry_intervals": retry.seconds() if isinstance(retry, Retry) else None,
        "timeout_secs": checks.positive("_timeout", params.timeout),
        "heartbeat_secs": checks.positive("_heartbeat", params.heartbeat),
        "ttl": checks.positive("_ttl", params.ttl),
        "result_ttl": _given(checks.seconds, "_result_ttl", params.result_ttl),
        "failure_ttl": _given(checks.seconds, "_failure_ttl", params.failure_ttl),
        "failure_mode": _failure_mode(params.failure_mode),
        "depends_on": depends_on,
        **{option: _callback(option, getattr(params, option), allowed) for option in CALLBACKS},
        **_repeat(params.repeat),
        **checks.when(params.delay, params.at),
    }
    return {name: value for name, value in columns.items() if value is not None}


def specify_update(
    *, at: datetime | None, delay: Seconds | None, priority: int | None, meta: dict[str, Any] | None
) -> dict[str, Any]:
    """What `update_job` may change, as the database reads it."""
    moment = checks.when(delay, at)
    moves = priority is not None or any(value is not None for value in moment.values())
    return {
        **moment,
        "priority": None if priority is None else checks.priority(priority),
        "meta": _given(checks.meta, "_meta", meta),
        "moves": moves,
    }


def _arguments(params: EnqueueParams) -> dict[str, Any]:
    args: object = params.args
    kwargs: object = params.kwargs
    if type(args) not in (tuple, list) and (not isinstance(args, Sequence) or isinstance(args, str | bytes)):
        raise InvalidType(f"args must be a list or tuple, got {brief(args)}")
    is_dict = type(kwargs) is dict
    if not (is_dict or isinstance(kwargs, Mapping)) or not _are_names(params.kwargs):
        raise InvalidType(f"kwargs must be a dict by name, got {brief(kwargs)}")
    return {"args": list(params.args), "kwargs": dict(params.kwargs)}


def _are_names(kwargs: Mapping[Any, Any]) -> bool:
    return not kwargs or all(isinstance(name, str) for name in kwargs)


def _function(params: EnqueueParams, allowed: Allowed) -> str:
    handler = handler_of(params.func, allowed=allowed)
    if not isinstance(handler, Handler):
        return handler
    handler.check(params.args, params.kwargs)
    return handler.path


def _payload(payload: dict[str, Any], serializer: Serializer) -> bytes:
    try:
        text: object = serializer.dumps(payload)
    except NotSerializable:
        for name, value in [*enumerate(payload["args"], 1), *payload["kwargs"].items()]:
            _check_argument(name, value, serializer)
        raise
    if not isinstance(text, bytes):
        raise InvalidType(f"a serializer's dumps gives bytes, got {type(text).__name__} from {brief(serializer)}")
    return bounded(text, "arguments")


def _payloads(payloads: Sequence[dict[str, Any]], serializer: Serializer) -> bytes:
    """In one go, where that is the same as one after the other."""
    text = plain_json(payloads) if type(serializer) is JSONSerializer else None
    return (
        text[1:-1]
        if text and len(text) <= LARGEST
        else b",".join([_payload(payload, serializer) for payload in payloads])
    )


def _check_argument(name: int | str, value: Any, serializer: Serializer) -> None:
    try:
        serializer.dumps(value)
    except NotSerializable as error:
        which = f"positional argument {name}" if isinstance(name, int) else f"argument {name!r}"
        raise NotSerializable(f"{which} cannot be stored: {error}") from error


def _given(check: Callable[[str, Any], T], option: str, value: Any) -> T | None:
    return None if value is None else check(option, value)


def _failure_mode(value: object) -> str | None:
    """None, as the database has it, is to hold."""
    if not isinstance(value, str) or value not in tuple(FailureMode):
        raise InvalidOption(f"_failure_mode must be hold or delete, got {brief(value)}")
    return None if value == FailureMode.Hold else FailureMode.Delete.value


def _callback(option: str, value: object, allowed: Allowed) -> dict[str, Any] | None:
    if value is None:
        return None
    callback = value if isinstance(value, Callback) else Callback(value)  # type: ignore[arg-type]
    handler = handler_of(callback.func, f"_{option}", allowed)
    if isinstance(handler, Handler):
        handler.check_callback(f"_{option}")
        handler = handler.path
    return {"function": handler, "timeout": checks.positive("Callback.timeout", callback.timeout)}


def _repeat(value: object) -> dict[str, Any]:
    if value is not None and not isinstance(value, Repeat):
        raise InvalidType(f"_repeat must be a Repeat, like Repeat(times=5, interval=60), got {brief(value)}")
    return {
        "repeat_remaining": None if value is None else value.times,
        "repeat_intervals": None if value is None else value.seconds(),
    }


_needing = attrgetter("key", "depends_on", "delay", "at")
_NEEDING_NOTHING = _needing(Options())

# Most jobs choose nothing: what that means is found out once.
_chosen = attrgetter(*OPTIONS)
_UNCHOSEN = _chosen(Options())
_UNCHOSEN_COLUMNS = _chosen_columns(Options())


@lru_cache(maxsize=1024)
def _plain(function: str) -> Mapping[str, Any]:
    return {"function": function, **_UNCHOSEN_COLUMNS}
