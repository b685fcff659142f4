"""What the command line says of queues, and of what they have done."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pgwerk.cli import queues
from pgwerk.cli.output import seconds
from pgwerk.overview import Throughput

if TYPE_CHECKING:
    from tests.shell import Shell


def work(shell: Shell) -> None:
    for function, arguments in (("square", "[7]"), ("square", "[8]"), ("fail", "{}")):
        shell.says("enqueue", f"tests.handlers.{function}", arguments)
    ran = shell.run("worker", "tests.workplace:app", "--burst")
    assert ran.returncode == 0, ran.stderr


def columns(text: str) -> list[dict[str, str]]:
    head, *lines = (line.split("\t") for line in text.splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_the_queues_at_a_glance(shell: Shell) -> None:
    assert shell.says("info") == "there are no queues: nothing was ever enqueued here, and no worker runs\n"
    shell.says("enqueue", "tests.handlers.noop", "--queue", "mail")
    (line,) = columns(shell.says("info"))
    assert (line["queue"], line["queued"], line["workers"], line["drained"], line["paused"]) == (
        "mail", "1", "0", "-", "-"
    )  # fmt: skip
    (queue,) = json.loads(shell.says("info", "--json"))
    assert (queue["queue"], queue["queued"], queue["drained_in"], queue["paused_at"]) == ("mail", 1, None, None)


def test_a_queue_rests_and_goes_on(shell: Shell) -> None:
    assert shell.says("queues", "pause", "default") == "paused default\n"
    assert shell.says("queues", "pause", "default") == "default was paused already\n"
    work(shell)
    (line,) = columns(shell.says("info"))
    assert (line["queued"], line["paused"] == "-") == ("3", False)
    assert shell.says("why", "1").startswith("its queue 'default' is paused since ")
    assert shell.says("queues", "resume", "default") == "resumed default\n"
    assert shell.says("queues", "resume", "default") == "default was not paused\n"
    assert shell.run("worker", "tests.workplace:app", "--burst").returncode == 0
    assert shell.says("jobs", "--status", "queued") == "there are no such jobs\n"


def test_what_has_ended_minute_by_minute_and_function_by_function(shell: Shell) -> None:
    for command in ("throughput", "stats", "slowest"):
        assert shell.says(command) == "nothing has ended in that time\n"
    work(shell)
    minutes = columns(shell.says("throughput"))
    assert [sum(int(each[name]) for each in minutes) for name in ("complete", "failed", "retried")] == [2, 1, 0]
    by_function = {each["function"]: each for each in columns(shell.says("stats", "--minutes", "5"))}
    assert by_function["tests.handlers.square"]["complete"] == "2"
    assert by_function["tests.handlers.fail"]["failed %"] == "100.0"
    ranked = json.loads(shell.says("slowest", "--json"))
    assert [each["mean_secs"] for each in ranked] == sorted((each["mean_secs"] for each in ranked), reverse=True)
    assert len(columns(shell.says("slowest", "--limit", "1"))) == 1
    assert shell.says("stats", "--queue", "other") == "nothing has ended in that time\n"


def test_people_see_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "is_terminal", lambda _: True)
    minutes = [datetime(2027, 1, 1, 12, each, tzinfo=UTC) for each in (0, 1, 40)]
    ended = [Throughput(minute=each, complete=2, failed=0, aborted=0, retried=0) for each in minutes]
    rows = queues._chart(ended)
    assert [row["complete"] for row in rows] == [2, 2, "", 2]
    assert rows[2]["minute"] == "(38 min without any)"


def test_no_colours_where_nobody_wants_them(shell: Shell) -> None:
    assert "\x1b" not in shell.shows("doctor", NO_COLOR="1")


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 ms"), (0.0123, "12.3 ms"), (1, "1 s"), (59.94, "59.9 s"), (90, "1.5 min"), (7200, "2 h"), (2e6, "23.1 d")],
)
def test_a_span_of_time_in_words(number: float, words: str) -> None:
    assert seconds(number) == words
