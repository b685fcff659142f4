"""Each rule that one row can break is refused by the schema itself."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from pgwerk import Werk

NOW = "2026-01-01T00:00:00Z"
VALID: dict[str, dict[str, Any]] = {
    "migration": {"version": 1000, "name": "later", "serves": 1},
    "job": {"function": "m.f", "payload": "{}", "queue": "default", "priority": 0, "max_attempts": 1, "key": "k"},
    "ready": {"queue": "default", "priority": 0, "seq": 1, "job_id": 1, "attempt": 1},
    "scheduled": {"job_id": 1, "due": NOW, "queue": "default", "priority": 0, "attempt": 1},
    "blocked": {"job_id": 1, "group_key": "g", "queue": "default", "priority": 0, "attempt": 1},
    "waiting": {"job_id": 1, "queue": "default", "priority": 0, "unmet": 1, "is_watched": True},
    "dependency": {"job_id": 2, "on_id": 1, "allow_failure": False, "is_met": False},
    "active": {"job_id": 1, "worker_id": 1, "claim_no": 1, "attempt": 1, "started_at": NOW},
    "attempt": {
        "job_id": 1, "attempt": 1, "status": "failed", "worker_id": 1, "started_at": NOW, "finished_at": NOW,
    },
    "finished": {"job_id": 1, "status": "complete", "attempt": 1, "started_at": NOW, "finished_at": NOW},
    "worker": {
        "name": "w", "kind": "k", "queues": "{default}", "concurrency": 1, "patience": 10, "state": "alive",
        "beat": 0, "started_at": NOW,
    },
    "idle": {"worker_id": 1},
    "waiter": {"job_id": 1, "until": NOW},
    "schedule": {
        "name": "s", "function": "m.f", "payload": "{}", "options": "{}", "cron": "@daily", "tz": "UTC",
        "missed": "latest", "overlap": "allow", "jitter_secs": 0, "is_paused": False,
    },
    "pause": {"queue": "q", "paused_at": NOW, "changes": 1},
    "tally": {
        "since": NOW, "grain": 0, "queue": "q", "function": "m.f", "status": "retry", "jobs": 2, "ran": 1,
        "run_secs": 2, "longest_secs": 2,
    },
}  # fmt: skip
BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("migration", {"version": 0, "serves": 0}, "migration_check"),
    ("migration", {"serves": 0}, "migration_check"),
    ("migration", {"serves": 1001}, "migration_check"),
    ("job", {"function": ""}, "job_function_check"),
    ("job", {"queue": ""}, "job_label_check"),
    ("job", {"queue": "q" * 256}, "job_label_check"),
    ("job", {"key": ""}, "job_label_check"),
    ("job", {"key": "ü" * 256}, "job_label_check"),
    ("job", {"meta": "[]"}, "job_meta_check"),
    ("job", {"meta": "null"}, "job_meta_check"),
    ("job", {"max_attempts": 0}, "job_attempts_check"),
    ("job", {"retry_intervals": "{}"}, "job_intervals_check"),
    ("job", {"retry_intervals": "{1,-1}"}, "job_intervals_check"),
    ("job", {"retry_intervals": "{NaN}"}, "job_intervals_check"),
    ("job", {"retry_intervals": "{1,NULL}"}, "job_intervals_check"),
    ("job", {"retry_intervals": "{Infinity}"}, "job_intervals_check"),
    ("job", {"retry_intervals": "{{1,2},{3,4}}"}, "job_intervals_check"),
    ("job", {"retry_intervals": "[0:1]={1,2}"}, "job_intervals_check"),
    ("job", {"timeout_secs": 0}, "job_time_limit_check"),
    ("job", {"ttl": 0}, "job_time_limit_check"),
    ("job", {"ttl": "NaN"}, "job_time_limit_check"),
    ("job", {"timeout_secs": "Infinity"}, "job_time_limit_check"),
    ("job", {"heartbeat_secs": 1e300}, "job_time_limit_check"),
    ("job", {"group_key": ""}, "job_label_check"),
    ("job", {"group_key": "g" * 256}, "job_label_check"),
    ("job", {"heartbeat_secs": 0}, "job_time_limit_check"),
    ("job", {"result_ttl": -1}, "job_seconds_check"),
    ("job", {"failure_ttl": -1}, "job_seconds_check"),
    ("job", {"failure_ttl": "NaN"}, "job_seconds_check"),
    ("job", {"result_ttl": 3162240001}, "job_seconds_check"),
    ("job", {"failure_mode": "hold"}, "job_failure_mode_check"),
    ("job", {"on_success": '{"function": ""}'}, "job_call_check"),
    ("job", {"on_failure": '{"function": ""}'}, "job_call_check"),
    ("job", {"on_stopped": '{"function": ""}'}, "job_call_check"),
    *[
        ("job", {"on_stopped": call}, "job_call_check")
        for call in (
            "null",
            "{}",
            "[]",
            '"m.f"',
            '{"function": 1}',
            '{"function": {"a": 1}}',
            '{"timeout": 1}',
            '{"function": "m.f", "timeout": "1"}',
            '{"function": "m.f", "timeout": [1]}',
            '{"function": "m.f", "timeout": 0}',
            '{"function": "m.f", "timeout": 1e400}',
        )
    ],
    ("job", {"repeat_remaining": -1, "repeat_intervals": "{1}"}, "job_runs_check"),
    ("job", {"repeat_intervals": "{}"}, "job_intervals_check"),
    ("job", {"repeat_intervals": "{-1}"}, "job_intervals_check"),
    ("job", {"repeat_remaining": 1}, "job_check"),
    ("job", {"id": 1, "callback_of": 1}, "job_check1"),
    ("job", {"attempts_before": 2}, "job_check2"),
    ("blocked", {"attempt": 0}, "blocked_attempt_check"),
    ("waiting", {"unmet": -1}, "waiting_unmet_check"),
    ("dependency", {"on_id": 2}, "dependency_check"),
    ("ready", {"attempt": 0}, "ready_attempt_check"),
    ("scheduled", {"attempt": 0}, "scheduled_attempt_check"),
    ("active", {"attempt": 0}, "active_attempt_check"),
    ("attempt", {"attempt": 0}, "attempt_attempt_check"),
    ("attempt", {"status": "complete"}, "attempt_status_check"),
    ("finished", {"attempt": -1}, "finished_attempt_check"),
    ("finished", {"status": "retry", "error": "e"}, "finished_status_check"),
    ("finished", {"error": "e"}, "finished_check"),
    ("finished", {"started_at": None}, "finished_check"),
    ("finished", {"status": "failed"}, "finished_check1"),
    ("worker", {"state": "ill", "ended_at": NOW}, "worker_state_check"),
    ("worker", {"ended_at": NOW}, "worker_check"),
    ("worker", {"state": "dead"}, "worker_check"),
    ("worker", {"queues": "{}"}, "worker_queues_check"),
    ("worker", {"concurrency": 0}, "worker_concurrency_check"),
    ("worker", {"patience": 0}, "worker_patience_check"),
    ("schedule", {"name": ""}, "schedule_name_check"),
    ("schedule", {"name": "n" * 201}, "schedule_name_check"),
    ("schedule", {"owner": ""}, "job_label_check"),
    ("schedule", {"options": "[]"}, "job_meta_check"),
    ("schedule", {"interval_secs": 60}, "schedule_check"),
    ("schedule", {"cron": None}, "schedule_check"),
    ("schedule", {"cron": None, "interval_secs": 0.5}, "schedule_interval_secs_check"),
    ("schedule", {"missed": "never"}, "schedule_missed_check"),
    ("schedule", {"overlap": "forbid"}, "schedule_overlap_check"),
    ("schedule", {"jitter_secs": -1}, "job_seconds_check"),
    ("pause", {"queue": ""}, "job_label_check"),
    ("pause", {"changes": 0}, "pause_changes_check"),
    ("tally", {"grain": 3}, "tally_grain_check"),
    ("tally", {"jobs": 0, "ran": 0}, "tally_jobs_check"),
    ("tally", {"ran": 3}, "tally_check"),
    ("tally", {"ran": -1}, "tally_check"),
    ("tally", {"longest_secs": 3}, "tally_check1"),
    ("tally", {"longest_secs": -1}, "tally_check1"),
    ("tally", {"status": "back"}, "tally_status_check"),
    ("tally", {"queue": ""}, "job_label_check"),
    ("tally", {"function": ""}, "job_function_check"),
]
OPTIONAL = {("job", "key"), ("schedule", "cron"), ("pause", "paused_at")}
REQUIRED = [(table, column) for table, row in VALID.items() for column in row if (table, column) not in OPTIONAL]
TWICE = {
    "migration": "migration_pkey",
    "job": "job_key",
    "ready": "ready_scan",
    "scheduled": "scheduled_pkey",
    "blocked": "blocked_pkey",
    "waiting": "waiting_pkey",
    "dependency": "dependency_pkey",
    "active": "active_pkey",
    "attempt": "attempt_pkey",
    "finished": "finished_pkey",
    "idle": "idle_pkey",
    "schedule": "schedule_pkey",
    "pause": "pause_pkey",
}


@pytest.fixture
def insert(app: Werk, query: Any) -> Any:
    def run(table: str, row: dict[str, Any]) -> None:
        names = sql.SQL(", ").join(map(sql.Identifier, row))
        holes = sql.SQL(", ").join([sql.Placeholder()] * len(row))
        query(sql.SQL("insert into {} ({}) values ({})").format(sql.Identifier(table), names, holes), *row.values())

    return run


@pytest.mark.parametrize("table", VALID)
def test_a_good_row_is_taken(table: str, insert: Any) -> None:
    insert(table, VALID[table])


@pytest.mark.parametrize(
    "change",
    [
        {"on_success": '{"function": "m.f"}'},
        {"on_success": '{"function": "m.f", "timeout": null}'},
        {"on_success": '{"function": "m.f", "timeout": 0.5}'},
        {"retry_intervals": "{0,3162240000}"},
        {"ttl": 3162240000, "result_ttl": 0},
    ],
)
def test_the_rules_take_what_enqueue_writes(change: dict[str, Any], insert: Any) -> None:
    insert("job", VALID["job"] | change)


@pytest.mark.parametrize(("table", "change", "rule"), BROKEN)
def test_a_row_that_breaks_a_rule_is_refused(table: str, change: dict[str, Any], rule: str, insert: Any) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        insert(table, VALID[table] | change)
    assert refused.value.diag.constraint_name == rule


@pytest.mark.parametrize(("table", "column"), REQUIRED)
def test_a_row_that_leaves_something_out_is_refused(table: str, column: str, insert: Any) -> None:
    with pytest.raises((psycopg.errors.NotNullViolation, psycopg.errors.CheckViolation)) as refused:
        insert(table, VALID[table] | {column: None})
    assert column in (refused.value.diag.column_name, "started_at")


@pytest.mark.parametrize(("table", "rule"), TWICE.items())
def test_what_is_there_once_is_not_taken_twice(table: str, rule: str, insert: Any) -> None:
    insert(table, VALID[table])
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        insert(table, VALID[table])
    assert refused.value.diag.constraint_name == rule


def test_a_job_comes_back_to_the_queue_only_once(insert: Any) -> None:
    insert("ready", VALID["ready"] | {"seq": -2})
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        insert("ready", VALID["ready"] | {"seq": -1})
    assert refused.value.diag.constraint_name == "ready_moved"


def test_a_group_has_one_active_job(insert: Any) -> None:
    insert("active", VALID["active"] | {"group_key": "g"})
    insert("active", VALID["active"] | {"job_id": 2, "group_key": "h"})
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        insert("active", VALID["active"] | {"job_id": 3, "group_key": "g"})
    assert refused.value.diag.constraint_name == "active_group"


def test_every_rule_of_the_schema_has_a_row_that_breaks_it(app: Werk, query: Any) -> None:
    rules = query(
        "select conname from pg_constraint where connamespace = %s::regnamespace and contype = 'c'",
        app.config.schema,
    )
    assert {rule for (rule,) in rules} == {rule for _, _, rule in BROKEN}
