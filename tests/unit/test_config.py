"""Settings from the environment."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from pgwerk import InvalidOption, InvalidType, WerkConfig
from pgwerk.config import environ_name
from pgwerk.errors import WerkError

GOOD = [
    ("dsn", "postgresql://u@h/d", "postgresql://u@h/d"),
    ("schema", "jobs", "jobs"),
    ("auto_migrate", "false", False),
    ("auto_migrate", "0", False),
    ("auto_migrate", "No", False),
    ("auto_migrate", "TRUE", True),
    ("auto_migrate", "1", True),
    ("auto_migrate", "yes", True),
    ("allow", "shop.charge, jobs.*", ("shop.charge", "jobs.*")),
    ("log_level", "debug", "debug"),
    ("log_format", "json", "json"),
    ("concurrency", "25", 25),
    ("processes", "4", 4),
    ("max_jobs", "1000", 1000),
    ("max_memory", "512", 512),
    ("listen", "false", False),
    ("poll_interval", "0.5", 0.5),
    ("heartbeat_interval", "1", 1.0),
    ("sweep_interval", "2.5", 2.5),
    ("shutdown_timeout", "0", 0.0),
    ("abort_interval", "0.5", 0.5),
    ("sigterm_grace", "2", 2.0),
    ("health_port", "8080", 8080),
    ("health_host", "0.0.0.0", "0.0.0.0"),  # noqa: S104 - as in a container
    ("dequeue_strategy", "random", "random"),
    ("worker_type", "fork", "fork"),
    ("result_ttl", "60", 60.0),
    ("result_ttl", "inf", math.inf),
    ("failure_ttl", "0", 0.0),
]

BAD = [
    ("auto_migrate", "perhaps", "PGWERK_AUTO_MIGRATE must be true or false, got 'perhaps'"),
    ("listen", "", "PGWERK_LISTEN must be true or false, got ''"),
    ("concurrency", "many", "PGWERK_CONCURRENCY must be a whole number, got 'many'"),
    ("concurrency", "2.5", "PGWERK_CONCURRENCY must be a whole number, got '2.5'"),
    ("processes", "", "PGWERK_PROCESSES must be a whole number, got ''"),
    ("max_jobs", "many", "PGWERK_MAX_JOBS must be a whole number, got 'many'"),
    ("poll_interval", "soon", "PGWERK_POLL_INTERVAL must be a number, got 'soon'"),
    ("heartbeat_interval", "2s", "PGWERK_HEARTBEAT_INTERVAL must be a number, got '2s'"),
    ("sweep_interval", "1,5", "PGWERK_SWEEP_INTERVAL must be a number, got '1,5'"),
    ("shutdown_timeout", "None", "PGWERK_SHUTDOWN_TIMEOUT must be a number, got 'None'"),
]

IMPOSSIBLE = [
    ("heartbeat_interval", "0"),
    ("heartbeat_interval", "-1"),
    ("heartbeat_interval", "nan"),
    ("sweep_interval", "nan"),
    ("sweep_interval", "-5"),
    ("poll_interval", "nan"),
    ("poll_interval", "0"),
    ("shutdown_timeout", "nan"),
    ("shutdown_timeout", "-1"),
    ("concurrency", "0"),
    ("processes", "0"),
    ("max_jobs", "0"),
    ("max_memory", "0"),
    ("log_level", "loud"),
    ("log_format", "xml"),
    ("dequeue_strategy", "fifo"),
    ("worker_type", "greenlet"),
    ("result_ttl", "-1"),
    ("poll_interval", "inf"),
    ("heartbeat_interval", "1e300"),  # the others could no longer compute with it
    ("max_jobs", "2147483648"),
    ("health_port", "0"),
    ("health_port", "65536"),
    ("allow", ""),
    ("allow", "shop.*,"),
    ("allow", "*"),
    ("allow", "shop*"),
    ("allow", "shop..charge"),
]
OF_NO_KIND = [
    ("dsn", 5, "a text"),
    ("schema", b"pgwerk", "a text"),
    ("auto_migrate", 1, "true or false"),
    ("concurrency", True, "a whole number"),
    ("concurrency", 2.0, "a whole number"),
    ("poll_interval", "1", "a number"),
    ("log_level", 20, "a text"),
    ("dequeue_strategy", [], "a text"),
]


def _from(**environment: str) -> WerkConfig:
    return WerkConfig.from_env(environment)


@pytest.mark.parametrize(("setting", "text", "value"), GOOD)
def test_a_setting_is_read(setting: str, text: str, value: Any) -> None:
    found = getattr(_from(**{environ_name(setting): text}), setting)
    assert (found, type(found)) == (value, type(value))


def test_the_table_knows_every_setting() -> None:
    assert {setting for setting, *_ in GOOD} == {setting.name for setting in fields(WerkConfig)}


@pytest.mark.parametrize(("setting", "text", "words"), BAD)
def test_a_setting_that_cannot_be_read_is_refused_by_its_name(setting: str, text: str, words: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        _from(**{environ_name(setting): text})
    assert str(caught.value) == words
    assert isinstance(caught.value, WerkError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("setting", "text"), IMPOSSIBLE)
def test_a_setting_that_can_never_work_is_refused_by_its_name(setting: str, text: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        _from(**{environ_name(setting): text})
    assert setting in str(caught.value)


@pytest.mark.parametrize(("setting", "value", "words"), OF_NO_KIND)
def test_a_setting_of_no_kind_is_refused_by_its_name(setting: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidType, match=rf"\(the setting {setting}\) must be {words}, got "):
        WerkConfig(**{setting: value})


@pytest.mark.parametrize("allow", ["shop.*", [1], {"shop.*"}, [None]])
def test_allow_is_a_list_of_texts(allow: Any) -> None:
    with pytest.raises(InvalidType, match=r"allow must be a list of paths like shop\.charge or shop\.\*, got "):
        WerkConfig(allow=allow)


def test_to_allow_nothing_is_a_slip() -> None:
    with pytest.raises(InvalidOption, match="allow is empty and no job could ever run"):
        WerkConfig(allow=())


def test_an_empty_environment_gives_the_defaults() -> None:
    assert _from() == WerkConfig()


def test_what_is_given_outranks_the_environment() -> None:
    config = WerkConfig.from_env({"PGWERK_SCHEMA": "theirs", "PGWERK_CONCURRENCY": "3"}, schema="mine")
    assert (config.schema, config.concurrency) == ("mine", 3)


def test_what_is_given_as_none_is_not_given() -> None:
    assert WerkConfig.from_env({"PGWERK_SCHEMA": "theirs"}, schema=None).schema == "theirs"


def test_given_false_outranks_the_environment() -> None:
    assert WerkConfig.from_env({"PGWERK_LISTEN": "true"}, listen=False).listen is False


def test_the_environment_is_this_process_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGWERK_PROCESSES", "7")
    assert WerkConfig.from_env().processes == 7


def test_other_variables_are_none_of_our_business() -> None:
    assert _from(PGWERK_TEST_DSN="x", SCHEMA="x") == WerkConfig()


@pytest.mark.parametrize("setting", fields(WerkConfig), ids=lambda setting: setting.name)
def test_every_setting_says_what_it_means(setting: Any) -> None:
    assert setting.metadata["text"]
