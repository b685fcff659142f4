"""Lines of handlers carry their job, wherever they run."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from pgwerk import InvalidOption, configure_logging
from pgwerk.logs import enter_job

if TYPE_CHECKING:
    from collections.abc import Iterator

shop = logging.getLogger("shop")


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """As it was before, whatever a test makes of it."""
    found = logging.getLogger()
    handlers, level = found.handlers[:], found.level
    yield found
    found.handlers[:], found.level = handlers, level


async def test_a_line_of_a_job_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")

    async def attempt(job_id: int) -> None:
        enter_job(job_id, "shop.send", 2)
        await asyncio.sleep(0)
        shop.info("sent")
        thread = threading.Thread(target=shop.info, args=("in a thread of its own",))
        thread.start()
        thread.join()

    await asyncio.gather(asyncio.create_task(attempt(1)), asyncio.create_task(attempt(2)))
    shop.info("outside")
    lines = [line.split(" INFO    ")[1] for line in capsys.readouterr().err.splitlines()]
    assert sorted(line for line in lines if line.startswith("sent")) == [
        "sent [job 1 shop.send attempt 2]", "sent [job 2 shop.send attempt 2]",
    ]  # fmt: skip
    assert "outside" in lines


async def test_json_lines_hold_it_as_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json")
    enter_job(7, "shop.send", 1)
    shop.error("not sent to %s", "ann", exc_info=ValueError("no paper"))
    line = json.loads(capsys.readouterr().err)
    assert line["error"].endswith("ValueError: no paper")
    assert {name: line[name] for name in ("level", "logger", "message", "job_id", "function", "attempt")} == {
        "level": "error", "logger": "shop", "message": "not sent to ann", "job_id": 7, "function": "shop.send",
        "attempt": 1,
    }  # fmt: skip


def test_a_second_call_takes_the_place_of_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    configure_logging("warning")
    shop.info("not this")
    shop.warning("once")
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()] == ["once"]


def test_the_program_s_own_handlers_stay(root: logging.Logger) -> None:
    own = logging.NullHandler()
    root.addHandler(own)
    configure_logging()
    assert own in root.handlers


@pytest.mark.parametrize(("level", "format"), [("loud", "text"), ("info", "xml")])
def test_what_it_cannot_be_is_refused(level: str, format: str) -> None:  # noqa: A002
    with pytest.raises(InvalidOption, match="log level and format must be like info and text, got"):
        configure_logging(level, format)
