-- Jobs that come again and again.

-- name: clock
select pgwerk.clock() as now;

-- name: due
-- Schedules whose time has come, the longest overdue first, without those that were seen already; and whether the last
-- job of each is still to end.
select
    s.*, j.id as last_job_id, pgwerk.clock() as now,
    j.id is not null and not exists (select from pgwerk.finished f where f.job_id = j.id) as is_running
from pgwerk.schedule s
left join lateral (select id from pgwerk.job where schedule_name = s.name order by id desc limit 1) j on true
where not s.is_paused and s.next_run_at <= pgwerk.clock()
    and s.name <> all (array(select json_array_elements_text(:without::json)))
order by s.next_run_at
limit 100;

-- name: next_due
-- Seconds until the next one, without those that are left to others.
select extract(epoch from next_run_at - pgwerk.clock())::double precision as seconds
from pgwerk.schedule
where not is_paused and next_run_at is not null
    and name <> all (array(select json_array_elements_text(:without::json)))
order by next_run_at
limit 1;

-- name: move
-- To its next tick, from the one that it was seen at. Where somebody else has moved it before, this fails (by a division
-- by zero), and with it the transaction in which it stands before the jobs of that tick.
with moved as (
    update pgwerk.schedule
    set next_run_at = :next_run_at::timestamptz, last_run_at = coalesce(:last_run_at::timestamptz, last_run_at)
    where name = :name::text and next_run_at = :seen_at::timestamptz and not is_paused
    returning name
)
select 1 / count(*) as moved from moved;

-- name: get_schedules
-- All of them, or one.
select s.*, j.id as last_job_id
from pgwerk.schedule s
left join lateral (select id from pgwerk.job where schedule_name = s.name order by id desc limit 1) j on true
where :name::text is null or s.name = :name::text
order by s.name;

-- name: put_schedule
-- A new one; or, if it `replaces`, what its owner says now: whether it is paused stays as it is, and so does when it is
-- next due, unless it is due at other times now. What was `seen_at` a time is written only if it has not changed since.
insert into pgwerk.schedule as s (
    name, owner, function, payload, options, cron, interval_secs, tz, missed, overlap, jitter_secs, is_paused,
    next_run_at)
select
    :name::text, :owner, :function, :payload, :options, :cron, :interval_secs, :tz, :missed, :overlap, :jitter_secs,
    :is_paused, :next_run_at
where :seen_at::timestamptz is null or exists (select from pgwerk.schedule where name = :name::text)
on conflict (name) do update set
    function = excluded.function,
    payload = excluded.payload,
    options = excluded.options,
    cron = excluded.cron,
    interval_secs = excluded.interval_secs,
    tz = excluded.tz,
    missed = excluded.missed,
    overlap = excluded.overlap,
    jitter_secs = excluded.jitter_secs,
    next_run_at = case
        when (s.cron, s.interval_secs, s.tz) is distinct from (excluded.cron, excluded.interval_secs, excluded.tz)
            then excluded.next_run_at
        else s.next_run_at
    end,
    updated_at = pgwerk.clock()
where :replaces::boolean
    and s.owner is not distinct from excluded.owner
    and (:seen_at::timestamptz is null or s.updated_at = :seen_at::timestamptz)
returning s.name;

-- name: pause_schedule
update pgwerk.schedule set is_paused = true, updated_at = pgwerk.clock()
where name = :name::text and not is_paused
returning name;

-- name: resume_schedule
-- From its next tick on: what it passed over was not meant to run.
update pgwerk.schedule set is_paused = false, next_run_at = :next_run_at, updated_at = pgwerk.clock()
where name = :name::text and is_paused
returning name;

-- name: delete_schedule
delete from pgwerk.schedule where name = :name::text returning name;

-- name: unregistered
-- Those of an owner that its code does not name any more.
select name from pgwerk.schedule
where owner = :owner::text and name <> all (array(select json_array_elements_text(:names::json)))
order by name;
