-- What people ask and do.

-- name: get_jobs
-- A row that stands nowhere was written by hand, and is no job.
select j.*
from unnest(:ids::bigint[]) as wanted (id)
cross join lateral (select * from pgwerk.jobs where jobs.id = wanted.id offset 0) j
where j.status is not null;

-- name: list_jobs
-- Newest first, from below `before` (an id): a page is cheap however far down it is. `text` is looked for in the
-- function, the key, the arguments and the error. Callbacks are left out where `callbacks` is false. Where `ids_alone` is
-- true nothing else leaves the server: arguments and results may be large.
--
-- Jobs of a state are looked for where they stand, so that a few failed ones beside a million others are found at once.
-- Just one branch of the candidates has rows, in its own order, and is read no further than needed; a sort of them all
-- would read everything. Ready entries stand in another order: of each lane the last `page` are enough where nothing
-- else is asked of them (`is_filtered`), all are sorted where they are few, and else every job is looked at.
with recursive lane as (
    (
        select queue, priority from pgwerk.ready
        where :status::text = 'queued' and (:queue::text is null or queue = :queue::text)
        order by queue, priority limit 1
    )
    union all
    select next.queue, next.priority
    from lane cross join lateral (
        select queue, priority from pgwerk.ready r
        where (r.queue, r.priority) > (lane.queue, lane.priority) and (:queue::text is null or queue = :queue::text)
        order by queue, priority limit 1
    ) next
),
look as materialized (
    select case
        when :key::text is not null then 'key'
        when :schedule::text is not null then 'schedule'
        when :status::text is null then 'job'
        when :status::text = 'queued' and :is_filtered::boolean and exists (select from pgwerk.ready offset 10000)
            then 'job'
        when :status::text = 'aborting' then 'active'
        else :status::text
    end as place
),
candidate as (
    (
        select id from pgwerk.job
        where (select place from look) = 'job' and id < :before::bigint
        order by id desc
    )
    union all
    (
        select id from pgwerk.job
        where (select place from look) = 'key' and id < :before::bigint and key = :key::text
    )
    union all
    (
        select id from pgwerk.job
        where (select place from look) = 'schedule' and id < :before::bigint and schedule_name = :schedule::text
        order by id desc
    )
    union all
    (
        select job_id from pgwerk.finished
        where (select place from look) = 'complete' and job_id < :before::bigint and status = 'complete'
        order by job_id desc
    )
    union all
    (
        select job_id from pgwerk.finished
        where (select place from look) = 'failed' and job_id < :before::bigint
            and status = 'failed' and status <> 'complete'
        order by job_id desc
    )
    union all
    (
        select job_id from pgwerk.finished
        where (select place from look) = 'aborted' and job_id < :before::bigint
            and status = 'aborted' and status <> 'complete'
        order by job_id desc
    )
    union all
    (
        select job_id from pgwerk.active
        where (select place from look) = 'active' and job_id < :before::bigint
            and is_aborting = (:status::text = 'aborting')
        order by job_id desc
    )
    union all
    (
        select job_id from pgwerk.scheduled
        where (select place from look) = 'scheduled' and job_id < :before::bigint
        order by job_id desc
    )
    union all
    (
        select job_id from pgwerk.waiting
        where (select place from look) = 'waiting' and job_id < :before::bigint
        order by job_id desc
    )
    union all
    (
        select job_id
        from (
            select job_id from pgwerk.blocked where job_id < :before::bigint
            union all
            select job_id from pgwerk.ready where job_id < :before::bigint and seq <> job_id
            union all
            select r.job_id
            from lane cross join lateral (
                select job_id from pgwerk.ready
                where ready.queue = lane.queue and ready.priority = lane.priority
                    and ready.seq >= 0 and ready.seq < :before::bigint and ready.seq = ready.job_id
                order by ready.seq desc
                limit case when not :is_filtered::boolean then :page::bigint end
            ) r
        ) standing
        where (select place from look) = 'queued'
        order by job_id desc
    )
)
select c.id as job_id, shown.*
from candidate c
cross join lateral (
    select id from pgwerk.job
    where job.id = c.id
        and (:queue::text is null or queue = :queue::text)
        and (:function::text is null or function = :function::text)
        and (:key::text is null or key = :key::text)
        and (:group::text is null or group_key = :group::text)
        and (:schedule::text is null or schedule_name = :schedule::text)
        and (:meta::jsonb is null or meta @> :meta::jsonb)
        and (:enqueued_from::timestamptz is null or enqueued_at >= :enqueued_from::timestamptz)
        and (:enqueued_until::timestamptz is null or enqueued_at < :enqueued_until::timestamptz)
        and (:callbacks::boolean or callback_of is null)
    offset 0
) asked
cross join lateral (select * from pgwerk.jobs where jobs.id = asked.id offset 0) j
left join lateral (select j.* where not :ids_alone::boolean) shown on true
where j.status is not null
    and (:status::text is null or j.status = :status::text)
    and (:worker_id::bigint is null or j.worker_id = :worker_id::bigint)
    and (:completed_from::timestamptz is null or j.completed_at >= :completed_from::timestamptz)
    and (:completed_until::timestamptz is null or j.completed_at < :completed_until::timestamptz)
    and (
        :text::text is null
        or strpos(lower(j.function), lower(:text::text)) > 0
        or strpos(lower(j.key), lower(:text::text)) > 0
        or strpos(lower(j.payload::text), lower(:text::text)) > 0
        or strpos(lower(j.error), lower(:text::text)) > 0)
limit :limit::bigint offset :offset::bigint;

-- name: executions
select job_id, attempt, status, worker_id, error, null::jsonb as result, started_at, finished_at as completed_at
from pgwerk.attempt where job_id = :job_id::bigint
union all
select job_id, attempt, status, worker_id, error, result, started_at, finished_at as completed_at
from pgwerk.finished where job_id = :job_id::bigint and started_at is not null
union all
select job_id, attempt, 'active', worker_id, null, null, started_at, null
from pgwerk.active where job_id = :job_id::bigint
order by attempt;

-- name: dependencies
select on_id, allow_failure from pgwerk.dependency where job_id = :job_id::bigint order by on_id;

-- name: is_pending
-- A job that is just moving between two rooms is in neither of them for the one who looked too early.
select
    pgwerk.place_of(:job_id::bigint) is not null
    or exists (select from pgwerk.blocked where job_id = :job_id::bigint)
    or exists (select from pgwerk.scheduled where job_id = :job_id::bigint)
    or exists (select from pgwerk.waiting where job_id = :job_id::bigint) as is_pending;

-- name: find_key
select id from pgwerk.job where key = :key;

-- name: update
-- Of a job that has not started: what is given. A new priority or time is a new place in the queue, behind those who
-- have it already; a new time is also one to expire after, for what can still expire.
with unreadied as (
    delete from pgwerk.ready where :moves::boolean and ctid = (select pgwerk.place_of(:job_id::bigint))
    returning job_id, attempt, null::timestamptz as due, expires_at, expires_at is not null as can_expire
),
unblocked as (
    delete from pgwerk.blocked where :moves::boolean and job_id = :job_id::bigint
    returning job_id, attempt, null::timestamptz as due, expires_at, expires_at is not null as can_expire
),
unscheduled as (
    delete from pgwerk.scheduled where :moves::boolean and job_id = :job_id::bigint
    returning job_id, attempt, due, null::timestamptz as expires_at, ttl is not null as can_expire
),
moved as (
    select * from unreadied union all select * from unblocked union all select * from unscheduled
),
waited as (
    update pgwerk.waiting
    set priority = coalesce(:priority::smallint, priority),
        due = coalesce(:at::timestamptz, now() + :delay::double precision * interval '1 second', due)
    where job_id = :job_id::bigint
    returning job_id
),
stayed as (
    select job_id from pgwerk.ready where not :moves::boolean and ctid = (select pgwerk.place_of(:job_id::bigint))
    union all select job_id from pgwerk.blocked where not :moves::boolean and job_id = :job_id::bigint
    union all select job_id from pgwerk.scheduled where not :moves::boolean and job_id = :job_id::bigint
),
renewed as (
    update pgwerk.job
    set priority = coalesce(:priority::smallint, priority),
        meta = coalesce(:meta::jsonb, meta),
        scheduled_at = coalesce(:at::timestamptz, now() + :delay::double precision * interval '1 second', scheduled_at)
    where id = :job_id::bigint
        and exists (select from moved union all select from waited union all select from stayed)
    returning id, queue, priority, group_key, ttl
),
placed as (
    select
        r.id, r.queue, r.priority, r.group_key, m.attempt, m.expires_at, case when m.can_expire then r.ttl end as ttl,
        case
            when :at::timestamptz < now() then now()
            else coalesce(:at::timestamptz, now() + :delay::double precision * interval '1 second', m.due)
        end as due
    from renewed r join moved m on m.job_id = r.id
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, group_key, expires_at)
    select
        queue, priority, nextval('pgwerk.job_id_seq'), id, attempt, group_key,
        case when due is null then expires_at else due + ttl * interval '1 second' end
    from placed where coalesce(due <= now(), true)
),
set_aside as (
    insert into pgwerk.scheduled (job_id, due, queue, priority, attempt, group_key, ttl)
    select id, due, queue, priority, attempt, group_key, ttl from placed where due > now()
),
called as materialized (
    select pg_notify(:channel, 'ready ' || queue) from placed where exists (select from pgwerk.idle)
)
select id, (select count(*) from called) as calls from renewed;

-- name: requeue
-- Failed and aborted jobs run again, with as many attempts as they were given; the numbers of their attempts go on.
with chosen as materialized (
    select job_id from pgwerk.finished
    where job_id = any (:ids::bigint[]) and status in ('failed', 'aborted') for update skip locked
),
gone as (
    delete from pgwerk.finished where job_id = any (array(select job_id from chosen))
    returning job_id, attempt, status, worker_id, error, started_at, finished_at
),
tried as (
    insert into pgwerk.attempt (job_id, attempt, status, worker_id, error, started_at, finished_at)
    select job_id, attempt, status, worker_id, error, started_at, finished_at from gone where started_at is not null
    on conflict do nothing
),
renewed as (
    update pgwerk.job j
    set max_attempts = least(2147483647, g.attempt::bigint + j.max_attempts - j.attempts_before),
        attempts_before = g.attempt
    from gone g
    where j.id = any (array(select job_id from chosen)) and j.id = g.job_id
    returning j.id, j.queue, j.priority, j.group_key, j.ttl, g.attempt
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, group_key, expires_at)
    select queue, priority, pgwerk.front_seq(), id, attempt + 1, group_key, now() + ttl * interval '1 second'
    from renewed order by id
),
called as materialized (
    select pg_notify(:channel, 'ready ' || q.queue) from (select distinct queue from renewed) q
    where exists (select from pgwerk.idle)
)
select id as job_id, (select count(*) from called) as calls from renewed;

-- name: abort
-- Asks the worker that runs it. It hears of it by the notification, or sees it at its next look.
with asked as (
    update pgwerk.active set is_aborting = true where job_id = :job_id::bigint and not is_aborting
    returning job_id
)
select job_id, pg_notify(:channel, 'abort ' || job_id) as called from asked;

-- name: touch_job
update pgwerk.active a
set touched_at = now(),
    stale_at = case
        when j.heartbeat_secs > 0 then now() + greatest(2 * j.heartbeat_secs, 10) * interval '1 second'
    end
from pgwerk.job j
where a.job_id = :job_id::bigint and j.id = a.job_id
returning a.job_id;

-- name: let_go
-- As if their time were over: they are forgotten as soon as their callbacks have ended. Nobody keeps them by waiting:
-- who waits hears that the job is gone, and who has died would keep it for a day. `anew`: but for those whose time was
-- over before.
with let_go as (
    update pgwerk.finished set expires_at = now()
    where job_id = any (:ids::bigint[]) and (not :anew::boolean or expires_at is null or expires_at > now())
    returning job_id
),
unwaited as (
    delete from pgwerk.waiter where job_id = any (array(select job_id from let_go))
)
select job_id from let_go;

-- name: ended_before
-- Of one status, by age; without those that are about to go.
select job_id from pgwerk.finished
where status = :status::text and finished_at < now() - :seconds::double precision * interval '1 second'
    and (expires_at is null or expires_at > now())
order by finished_at
limit :batch::bigint;

-- name: wait_for
-- Register first, then look: an end that the look does not see yet will be notified.
insert into pgwerk.waiter (id, job_id, until)
select :row::bigint, :job_id::bigint, now() + :seconds::double precision * interval '1 second'
where not exists (select from pgwerk.finished where job_id = :job_id::bigint);

-- name: ended_of
-- Those of the waited-for that have ended, or are gone altogether.
select w.id as job_id
from unnest(:ids::bigint[]) as w (id)
where exists (select from pgwerk.finished f where f.job_id = w.id offset 0)
    or not exists (select from pgwerk.job j where j.id = w.id offset 0);

-- name: stop_waiting
-- One's own rows: somebody else may not have read the job yet.
delete from pgwerk.waiter where id = any (:rows::bigint[]);

-- name: truncate
truncate
    pgwerk.job, pgwerk.ready, pgwerk.blocked, pgwerk.scheduled, pgwerk.waiting, pgwerk.dependency, pgwerk.active,
    pgwerk.attempt, pgwerk.finished, pgwerk.waiter;
