-- serves code from version 2
--
-- Groups, dependencies, repeats, callbacks, lifetimes, heartbeats. A worker of version 1 would run a group's jobs side
-- by side and forget what follows a job, so it must not work on this schema.

create domain pgwerk.job_failure_mode as text check (value = 'delete');
create domain pgwerk.job_call as jsonb check (value ->> 'function' <> '');
create domain pgwerk.job_runs as integer check (value >= 0);

alter table pgwerk.job
    add group_key        pgwerk.job_label,
    add heartbeat_secs   pgwerk.job_time_limit,
    add result_ttl       pgwerk.job_seconds,       -- that the row stays after completing; null: as the app says
    add failure_ttl      pgwerk.job_seconds,       -- … after failing or being aborted
    add failure_mode     pgwerk.job_failure_mode,  -- null: hold
    add on_success       pgwerk.job_call,      -- {"function": …, "timeout": …}
    add on_failure       pgwerk.job_call,
    add on_stopped       pgwerk.job_call,
    add repeat_remaining pgwerk.job_runs,          -- that still follow this one
    add repeat_intervals pgwerk.job_intervals,     -- seconds before each of them, the last one repeats
    add callback_of      bigint,               -- the job whose end this one is told of
    add attempts_before  integer not null default 0,  -- used up when it was last requeued
    add schedule_name    text,                 -- of the schedule that enqueued it
    add check (repeat_remaining is null or repeat_intervals is not null),
    add check (callback_of <> id),
    add check (attempts_before between 0 and max_attempts);
create index job_callback on pgwerk.job (callback_of) where callback_of is not null;

alter table pgwerk.ready add group_key text collate "C";
-- The order inside a group is (priority desc, job_id): it survives every move. `seq` is only the place in the scan.
create index ready_group on pgwerk.ready (group_key, queue, priority desc, job_id) where group_key is not null;

alter table pgwerk.scheduled add group_key text collate "C";

alter table pgwerk.active
    add group_key   text collate "C",
    add expires_at  timestamptz,           -- until when the attempt must have started, should it go back unstarted
    add touched_at  timestamptz,
    add stale_at    timestamptz,           -- not renewed until then: the attempt is lost; null: only with its worker
    add is_aborting boolean not null default false;
-- At most one active job of a group: this index decides, whatever the statements think.
create unique index active_group on pgwerk.active (group_key) where group_key is not null;
create index active_stale on pgwerk.active (stale_at) where stale_at is not null;
create index active_aborting on pgwerk.active (worker_id) where is_aborting;

-- A job whose group is busy: out of the scan, so that it holds up nobody.
create table pgwerk.blocked (
    job_id     bigint primary key,
    group_key  text collate "C" not null,
    queue      text collate "C" not null,
    priority   smallint not null,
    attempt    integer not null,
    expires_at timestamptz,
    check (attempt >= 1)
) with (vacuum_truncate = off);
-- `+job_id` is job_id, but for the planner: a look-up by job_id that was planned while this was empty would take it too.
create index blocked_group on pgwerk.blocked (group_key, queue, priority desc, (+job_id));
create index blocked_expiry on pgwerk.blocked (expires_at) where expires_at is not null;

-- A job that waits for others. An edge that a transaction still open hides from the one that ends the dependency is
-- found by looking again, until every transaction that ran at the first look has ended (`watch`): then nobody can have
-- missed it any more.
create table pgwerk.waiting (
    job_id    bigint primary key,
    queue     text collate "C" not null,
    priority  smallint not null,
    group_key text collate "C",
    due       timestamptz,
    ttl       double precision,
    unmet     integer not null,  -- dependencies that have not ended
    doom      text,              -- why it will never run: it is about to be ended
    watch     xid8,
    is_watched boolean not null default true,
    check (unmet >= 0)
) with (vacuum_truncate = off);
create index waiting_watch on pgwerk.waiting (job_id) where is_watched;
create index waiting_doom on pgwerk.waiting (job_id) where doom is not null;

create table pgwerk.dependency (
    job_id        bigint not null,
    on_id         bigint not null,
    allow_failure boolean not null,
    is_met        boolean not null default false,
    primary key (job_id, on_id),
    check (job_id <> on_id)
) with (vacuum_truncate = off);
create index dependency_open on pgwerk.dependency (on_id) where not is_met;

alter table pgwerk.finished add expires_at timestamptz;
create index finished_expiry on pgwerk.finished (expires_at) where expires_at is not null;
create index finished_status on pgwerk.finished (status, finished_at);

-- Ended jobs that nobody needs any more: their callbacks have ended, and whoever waited for them has read them.
create view pgwerk.forgettable as
select *
from pgwerk.finished f
where not exists (select from pgwerk.waiter w where w.job_id = f.job_id and w.until > now() offset 0)
    and not exists (
        select from pgwerk.job c
        where c.callback_of = f.job_id
            and not exists (select from pgwerk.finished e where e.job_id = c.id offset 0)
        offset 0
    );

create or replace view pgwerk.jobs as
select
    j.id,
    j.function,
    j.queue,
    case
        when f.job_id is not null then f.status
        when a.job_id is not null then case when a.is_aborting then 'aborting' else 'active' end
        when r.job_id is not null or m.job_id is not null or b.job_id is not null then 'queued'
        when s.job_id is not null then 'scheduled'
        when w.job_id is not null then 'waiting'
    end as status,
    j.priority,
    coalesce(f.attempt, a.attempt, r.attempt - 1, m.attempt - 1, b.attempt - 1, s.attempt - 1, 0) as attempts,
    j.max_attempts,
    coalesce(s.due, j.scheduled_at) as scheduled_at,
    j.enqueued_at,
    j.key,
    j.payload,
    f.result,
    coalesce(f.error, w.doom, t.error) as error,
    j.timeout_secs,
    coalesce(f.started_at, a.started_at) as started_at,
    f.finished_at as completed_at,
    coalesce(f.worker_id, a.worker_id) as worker_id,
    j.meta,
    j.ttl,
    j.retry_intervals,
    j.group_key,
    j.heartbeat_secs,
    a.touched_at,
    coalesce(f.expires_at, r.expires_at, m.expires_at, b.expires_at) as expires_at,
    j.result_ttl,
    j.failure_ttl,
    coalesce(j.failure_mode, 'hold') as failure_mode,
    j.on_success ->> 'function' as on_success,
    j.on_failure ->> 'function' as on_failure,
    j.on_stopped ->> 'function' as on_stopped,
    j.repeat_remaining,
    j.callback_of,
    j.schedule_name,
    b.job_id is not null as is_blocked
from pgwerk.job j
left join pgwerk.finished f on f.job_id = j.id
left join pgwerk.active a on a.job_id = j.id
-- looked for by all three: by the last alone, which a planner takes for enough while the table is empty, it walks the index
left join lateral (
    select ready.* from pgwerk.ready
    where ready.queue = j.queue and ready.priority = j.priority and ready.seq = j.id offset 0
) r on true
left join pgwerk.ready m on m.job_id = j.id and m.seq <> m.job_id
left join pgwerk.scheduled s on s.job_id = j.id
left join pgwerk.blocked b on b.job_id = j.id
left join pgwerk.waiting w on w.job_id = j.id
-- the latest failure of a job that has not ended; none is looked for where the first attempt is still to come
left join lateral (
    select attempt.error from pgwerk.attempt
    where attempt.job_id = j.id and f.job_id is null
    order by attempt.attempt desc limit 1
) t on true;
