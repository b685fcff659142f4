-- How an attempt or a job ends.

-- name: complete
-- Most ends: attempts that gave what they were to give, of jobs after which nothing comes. Guarded like any end, and a
-- quarter cheaper.
with outcome as materialized (
    select * from json_to_recordset(:outcomes::json) as o (
        job_id bigint, worker_id bigint, claim_no bigint, result jsonb)
),
held as (
    delete from pgwerk.active a using outcome o
    where a.job_id = any (array(select job_id from outcome))
        and a.job_id = o.job_id and a.worker_id = o.worker_id and a.claim_no = o.claim_no
    returning a.job_id, a.attempt, a.worker_id, a.started_at, o.result
),
finished as (
    insert into pgwerk.finished (job_id, status, attempt, worker_id, result, started_at)
    select job_id, 'complete', attempt, worker_id, result, started_at from held
),
awaited as materialized (
    select job_id from pgwerk.waiter where job_id = any (array(select job_id from outcome))
)
select
    array_agg(job_id) as ids,
    count(case when job_id in (select job_id from awaited) then pg_notify(:channel, 'ended ' || job_id) end) as calls
from held;

-- name: settle
-- Ends jobs, whoever asks for it: a worker with what finished, a person who cancels, maintenance with what expired, was
-- lost or depended on a job that failed. An outcome names what it must still find: with a worker, that claim of the job
-- by that worker; without one, the job wherever it waits (if it is to expire: only while it still may). The answer
-- names what was found; the rest had been moved by somebody else before.
-- What follows a job is written with its end: its callback, and the next of its runs. A worker knows of most jobs that
-- nothing does (`has_sequel`), and no row is read for them. It also counts what it ends by itself (`is_counted`).
with outcome as materialized (
    select * from json_to_recordset(:outcomes::json) as o (
        job_id bigint, worker_id bigint, claim_no bigint, status text, result jsonb, error text, expired boolean,
        has_sequel boolean, is_counted boolean)
),
unclaimed as materialized (
    select * from outcome where worker_id is null
),
held as (
    delete from pgwerk.active a using outcome o
    where a.job_id = any (array(select job_id from outcome))
        and a.job_id = o.job_id and a.worker_id = o.worker_id and a.claim_no = o.claim_no
    returning
        a.job_id, o.status, a.attempt - o.expired::integer as attempt, a.worker_id, o.result, o.error,
        case when not o.expired then a.started_at end as started_at, o.has_sequel, o.is_counted
),
unreadied as (
    delete from pgwerk.ready r using unclaimed o
    where r.ctid = any (array(select pgwerk.place_of(job_id) from unclaimed))
        and r.job_id = o.job_id and (not o.expired or r.expires_at < now())
    returning r.job_id, o.status, r.attempt - 1 as attempt, o.error
),
unblocked as (
    delete from pgwerk.blocked b using unclaimed o
    where b.job_id = any (array(select job_id from unclaimed))
        and b.job_id = o.job_id and (not o.expired or b.expires_at < now())
    returning b.job_id, o.status, b.attempt - 1 as attempt, o.error
),
unscheduled as (
    delete from pgwerk.scheduled s using unclaimed o
    where s.job_id = any (array(select job_id from unclaimed)) and s.job_id = o.job_id and not o.expired
    returning s.job_id, o.status, s.attempt - 1 as attempt, o.error
),
unwaited as (
    delete from pgwerk.waiting w using unclaimed o
    where w.job_id = any (array(select job_id from unclaimed)) and w.job_id = o.job_id and not o.expired
    returning w.job_id, o.status, 0 as attempt, o.error
),
ended as materialized (
    select
        e.*, j.queue, j.priority, j.function,
        case e.status when 'complete' then j.on_success when 'failed' then j.on_failure else j.on_stopped end as callback,
        e.status = 'complete' and j.repeat_remaining > 0 as repeats,
        case
            when e.status = 'complete' then j.result_ttl
            when e.status = 'failed' and j.failure_mode = 'delete' then 0
            else j.failure_ttl
        end as seconds_kept
    from (
        select * from held
        union all
        select job_id, status, attempt, null, null, error, null, true, false from (
            select * from unreadied union all select * from unblocked
            union all select * from unscheduled union all select * from unwaited
        ) u
    ) e
    left join lateral (select * from pgwerk.job where id = e.job_id and e.has_sequel offset 0) j on true
),
finished as (
    insert into pgwerk.finished (job_id, status, attempt, worker_id, result, error, started_at, expires_at)
    select
        job_id, status, attempt, worker_id, result, error, started_at, now() + seconds_kept * interval '1 second'
    from ended
    returning job_id
),
tallied as (
    insert into pgwerk.tally (since, grain, queue, function, status, jobs, ran, run_secs, longest_secs)
    select date_trunc('minute', now()), 0, queue, function, status, count(*), 0, 0, 0
    from ended where not is_counted and queue is not null group by queue, function, status
),
called_back as (
    insert into pgwerk.job (function, payload, queue, priority, max_attempts, timeout_secs, callback_of)
    select
        callback ->> 'function', '{"args": [], "kwargs": {}}', queue, priority, 3,
        (callback ->> 'timeout')::double precision, job_id
    from ended where callback is not null order by job_id
    returning id, queue, priority
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt)
    select queue, priority, pgwerk.front_seq(), id, 1 from called_back
    returning queue
),
repeated as (
    insert into pgwerk.job (
        function, payload, queue, priority, group_key, meta, max_attempts, retry_intervals, timeout_secs,
        heartbeat_secs, ttl, result_ttl, failure_ttl, failure_mode, on_success, on_failure, on_stopped,
        repeat_remaining, repeat_intervals, scheduled_at)
    select
        j.function, j.payload, j.queue, j.priority, j.group_key, j.meta, j.max_attempts - j.attempts_before,
        j.retry_intervals, j.timeout_secs, j.heartbeat_secs, j.ttl, j.result_ttl, j.failure_ttl, j.failure_mode,
        j.on_success, j.on_failure, j.on_stopped, j.repeat_remaining - 1,
        case when cardinality(j.repeat_intervals) > 1 then j.repeat_intervals[2:] else j.repeat_intervals end,
        now() + j.repeat_intervals[1] * interval '1 second'
    from ended e
    cross join lateral (select * from pgwerk.job where id = e.job_id offset 0) j
    where e.repeats order by e.job_id
    returning id, queue, priority, group_key, scheduled_at, ttl
),
set_aside as (
    insert into pgwerk.scheduled (job_id, due, queue, priority, attempt, group_key, ttl)
    select id, scheduled_at, queue, priority, 1, group_key, ttl from repeated
    returning queue
),
awaited as materialized (
    select job_id from pgwerk.waiter where job_id = any (array(select job_id from outcome))
),
called as materialized (
    select pg_notify(:channel, 'ready ' || q.queue)
    from (select queue from readied union select queue from set_aside) q
    where exists (select from pgwerk.idle)
)
select
    finished.job_id,
    case when finished.job_id in (select job_id from awaited)
        then pg_notify(:channel, 'ended ' || finished.job_id)
    end as called,
    (select count(*) from called) as calls,
    (select count(*) from readied) + (select count(*) from set_aside) as follow
from finished;

-- name: send_back
-- Ends attempts, not jobs: `retry` uses the attempt up, `back` does not, and `unstarted` can still expire. The same
-- guard, the same answer. What somebody wants to end for good stays where it is: whoever does not find it in the answer
-- settles it, and should he die before that, rescue does.
with outcome as materialized (
    select * from json_to_recordset(:outcomes::json) as o (
        job_id bigint, worker_id bigint, claim_no bigint, status text, delay double precision, error text,
        is_counted boolean)
),
held as (
    delete from pgwerk.active a using outcome o
    where a.job_id = any (array(select job_id from outcome))
        and a.job_id = o.job_id and a.worker_id = o.worker_id and a.claim_no = o.claim_no and not a.is_aborting
    returning
        a.job_id, a.worker_id, a.attempt, a.group_key, a.started_at, o.status, o.delay, o.error, o.is_counted,
        case when o.status = 'unstarted' then a.expires_at end as expires_at
),
tried as (
    insert into pgwerk.attempt (job_id, attempt, status, worker_id, error, started_at)
    select job_id, attempt, 'failed', worker_id, error, started_at from held where status = 'retry'
),
returned as (
    select
        h.job_id, h.attempt + (h.status = 'retry')::integer as attempt, h.delay, j.queue, j.priority, h.group_key,
        h.expires_at, h.status, h.is_counted, j.function
    from held h
    cross join lateral (select queue, priority, function from pgwerk.job where id = h.job_id offset 0) j
),
tallied as (
    insert into pgwerk.tally (since, grain, queue, function, status, jobs, ran, run_secs, longest_secs)
    select date_trunc('minute', now()), 0, queue, function, status, count(*), 0, 0, 0
    from returned where status = 'retry' and not is_counted group by queue, function, status
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, group_key, expires_at)
    select queue, priority, pgwerk.front_seq(), job_id, attempt, group_key, expires_at from returned where delay = 0
    order by job_id
),
set_aside as (
    insert into pgwerk.scheduled (job_id, due, queue, priority, attempt, group_key)
    select job_id, now() + delay * interval '1 second', queue, priority, attempt, group_key
    from returned where delay > 0
),
called as materialized (
    select pg_notify(:channel, 'ready ' || q.queue) from (select distinct queue from returned) q
    where exists (select from pgwerk.idle)
)
select held.job_id, (select count(*) from called) as calls from held;

-- name: free
-- Next statement of the same transaction, for jobs that left `active` or `ready`: the best that is blocked in each
-- queue of their groups may run. It waits for who has that in hand, and takes the next one if it is gone.
with recursive freed_group as (
    select distinct j.group_key
    from unnest(:ids::bigint[]) as i (id)
    cross join lateral (select group_key from pgwerk.job where id = i.id offset 0) j
    where j.group_key is not null
),
lane as (
    select
        g.group_key,
        (select b.queue from pgwerk.blocked b where b.group_key = g.group_key order by b.queue limit 1) as queue
    from freed_group g
    union all
    select
        l.group_key,
        (
            select b.queue from pgwerk.blocked b
            where b.group_key = l.group_key and b.queue > l.queue order by b.queue limit 1
        )
    from lane l where l.queue is not null
),
best as materialized (
    select b.*
    from (select * from lane where queue is not null order by group_key, queue) l
    cross join lateral (
        select * from pgwerk.blocked
        where blocked.group_key = l.group_key and blocked.queue = l.queue
        order by blocked.priority desc, +blocked.job_id limit 1 for update
    ) b
),
gone as (
    delete from pgwerk.blocked where job_id = any (array(select job_id from best))
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, group_key, expires_at)
    select queue, priority, pgwerk.front_seq(), job_id, attempt, group_key, expires_at from best
),
called as materialized (
    select pg_notify(:channel, 'ready ' || q.queue) from (select distinct queue from best) q
    where exists (select from pgwerk.idle)
)
select job_id, (select count(*) from called) as calls from best;

-- name: release
-- Next statement of the same transaction, for jobs that may have ended: those that depend on them have one less to wait
-- for. With none left they may run; with one that failed they never will (`doom`), and are ended by settle like any
-- other job, in a transaction of their own, so that a cascade of any size comes in steps.
-- The edges first, then those who wait in the order of their ids: nobody waits in a ring.
with met as (
    update pgwerk.dependency d set is_met = true
    where d.on_id = any (:ids::bigint[]) and not d.is_met
        and (
            exists (select from pgwerk.finished f where f.job_id = d.on_id offset 0)
            or not exists (select from pgwerk.job j where j.id = d.on_id offset 0))
    returning d.job_id, d.on_id, d.allow_failure
),
told as materialized (
    select
        m.job_id, count(*) as met,
        min(case
            when m.allow_failure or f.status = 'complete' then null
            when f.started_at is null and f.error like 'dependency %' then f.error
            else format('dependency %s%s %s', m.on_id, ' (' || j.function || ')', case
                when f.status = 'failed' then 'failed'
                when f.status = 'aborted' then 'was aborted'
                else 'is gone'
            end)
        end) as doom
    from met m
    left join lateral (
        select status, error, started_at from pgwerk.finished where job_id = m.on_id offset 0
    ) f on true
    left join lateral (select function from pgwerk.job where id = m.on_id offset 0) j on true
    group by m.job_id
),
held as materialized (
    select w.*, t.met, coalesce(w.doom, t.doom) as new_doom
    from (select * from told order by job_id) t
    cross join lateral (select * from pgwerk.waiting where job_id = t.job_id for update) w
),
-- an upsert, as that finds each row by its key, however many there are
kept as (
    insert into pgwerk.waiting (job_id, queue, priority, unmet, doom)
    select job_id, queue, priority, unmet - met, new_doom from held where unmet > met or new_doom is not null
    on conflict (job_id) do update set unmet = excluded.unmet, doom = excluded.doom
),
gone as (
    delete from pgwerk.waiting
    where job_id = any (array(select job_id from held where unmet = met and new_doom is null))
    returning job_id, queue, priority, group_key, ttl, case when due > now() then due end as due
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, group_key, expires_at)
    select queue, priority, pgwerk.front_seq(), job_id, 1, group_key, now() + ttl * interval '1 second'
    from gone where due is null order by job_id
),
set_aside as (
    insert into pgwerk.scheduled (job_id, due, queue, priority, attempt, group_key, ttl)
    select job_id, due, queue, priority, 1, group_key, ttl from gone where due is not null
),
called as materialized (
    select pg_notify(:channel, 'ready ' || q.queue) from (select distinct queue from gone) q
    where :always::boolean or exists (select from pgwerk.idle)
)
select job_id, new_doom as doom, null as status, (select count(*) from called) as calls
from held where new_doom is not null
union all
select job_id, null, case when due is null then 'queued' else 'scheduled' end, (select count(*) from called)
from gone;
