"""What all tables together say of each job, one line a job, and the rules that hold between the tables at any moment.

Times are hours from now, to the nearest: what is compared depends on no clock, nor on where a job stands in the scan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.db.race import misplaced

if TYPE_CHECKING:
    from collections.abc import Callable

    Query = Callable[..., list[tuple[Any, ...]]]


class Line(NamedTuple):
    id: int
    function: str
    status: str
    is_blocked: bool
    queue: str
    priority: int
    group: str | None
    key: str | None
    attempts: int
    limit: int
    history: list[str]
    """Of each attempt that ended: its number and how."""

    repeats: int
    subject: int | None
    """The job of which it is a callback."""

    unmet: list[int]
    due: int | None
    expires: int | None
    """Until when it must have started, or when its row may go."""

    stale: int | None
    why: str | None
    """The first word of its error."""


LINES = """
    with room as (
        select job_id, 'queued' as status, false as is_blocked, attempt - 1 as attempts, null::timestamptz as due,
            expires_at, null::timestamptz as stale_at, null as error
        from ready
        union all select job_id, 'queued', true, attempt - 1, null, expires_at, null, null from blocked
        union all select job_id, 'scheduled', false, attempt - 1, due, null, null, null from scheduled
        union all select job_id, 'waiting', false, 0, due, null, null, null from waiting
        union all select job_id, case when is_aborting then 'aborting' else 'active' end, false, attempt, null,
            expires_at, stale_at, null from active
        union all select job_id, status, false, attempt, null, expires_at, null, error from finished
    ),
    ended as (
        select job_id, attempt, status from attempt
        union all select job_id, attempt, status from finished where started_at is not null
    )
    select
        j.id, j.function, r.status, r.is_blocked, j.queue, j.priority, j.group_key, j.key, r.attempts, j.max_attempts,
        array(select concat_ws(' ', attempt, status) from ended where job_id = j.id order by attempt, status),
        coalesce(j.repeat_remaining, 0), j.callback_of,
        array(
            select on_id from dependency where r.status = 'waiting' and job_id = j.id and not is_met order by on_id
        ),
        round(extract(epoch from r.due - now()) / 3600)::int,
        round(extract(epoch from r.expires_at - now()) / 3600)::int,
        round(extract(epoch from r.stale_at - now()) / 3600)::int,
        rtrim(split_part(r.error, ' ', 1), ':')
    from job j join room r on r.job_id = j.id
    order by j.id
"""

_RULES = {
    "stands there in another queue, priority or group than its own": """
        select job.id from job join (
            select job_id, queue, priority, group_key from ready
            union all select job_id, queue, priority, group_key from blocked
            union all select job_id, queue, priority, group_key from scheduled
            union all select job_id, queue, priority, group_key from waiting
            union all select a.job_id, j.queue, j.priority, a.group_key from active a join job j on j.id = a.job_id
        ) r on r.job_id = job.id
        where (r.queue, r.priority, r.group_key)
            is distinct from (job.queue::text, job.priority, job.group_key::text)
    """,
    "is blocked by nothing": """
        select job_id from blocked b
        where not exists (select from active where group_key = b.group_key)
            and not exists (select from ready where group_key = b.group_key)
    """,
    "waits for another number of jobs than it has edges to": """
        select w.job_id from waiting w
        where unmet <> (select count(*) from dependency d where d.job_id = w.job_id and not is_met)
    """,
    "waits for nothing": "select job_id from waiting where unmet = 0",
    "waits for a job that has ended": """
        select d.job_id from dependency d join waiting using (job_id)
        where not d.is_met and (
            exists (select from finished f where f.job_id = d.on_id)
            or not exists (select from job where job.id = d.on_id))
    """,
    "can never run, and has not ended": "select job_id from waiting where doom is not null",
    "has more attempts than it was given": """
        select id from job join (
            select job_id, attempt from active union all select job_id, attempt from ready
            union all select job_id, attempt from blocked union all select job_id, attempt from scheduled
            union all select job_id, attempt from finished
        ) r on r.job_id = job.id where r.attempt > max_attempts
    """,
    "has left something behind": """
        select job_id from (
            select job_id from attempt union all select job_id from dependency union all select job_id from waiter
        ) r where not exists (select from job where id = job_id)
    """,
    "tells of a job that is gone": """
        select id from job where callback_of is not null and not exists (select from job s where s.id = job.callback_of)
    """,
}


def portrait(query: Query) -> list[Line]:
    return [Line(*row) for row in query(LINES)]


def broken(query: Query) -> list[str]:
    """Every rule that does not hold, and for which job."""
    parts = [f"select id, %s::text from ({rule}) r (id)" for rule in _RULES.values()]
    found = query(f"{' union all '.join(parts)} order by 1", *_RULES)
    homeless = [f"job {job} is in {', '.join(filter(None, rooms)) or 'no place'}" for job, rooms in misplaced(query)]
    return homeless + [f"job {job} {rule}" for job, rule in found]
