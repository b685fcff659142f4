-- How an attempt or a job ends.

-- name: settle
-- Ends jobs, whoever asks for it: a worker with what finished, a person who cancels, maintenance with what expired or
-- was lost. An outcome names what it must still find: with a worker, that claim of the job by that worker; without
-- one, the job wherever it waits (if it is to expire: only while it still may). The answer names what was found; the
-- rest had been moved by somebody else before.
with outcome as materialized (
    select * from json_to_recordset(:outcomes::json) as o (
        job_id bigint, worker_id bigint, claim_no bigint, status text, result jsonb, error text, expired boolean)
),
held as (
    delete from pgwerk.active a using outcome o
    where a.job_id = any (array(select job_id from outcome))
        and a.job_id = o.job_id and a.worker_id = o.worker_id and a.claim_no = o.claim_no
    returning
        a.job_id, o.status, a.attempt - o.expired::integer as attempt, a.worker_id, o.result, o.error,
        case when not o.expired then a.started_at end as started_at
),
unreadied as (
    delete from pgwerk.ready r using outcome o
    where r.job_id = any (array(select job_id from outcome where worker_id is null))
        and o.worker_id is null and r.job_id = o.job_id and (not o.expired or r.expires_at < now())
    returning r.job_id, o.status, r.attempt - 1 as attempt, o.error
),
unscheduled as (
    delete from pgwerk.scheduled s using outcome o
    where s.job_id = any (array(select job_id from outcome where worker_id is null))
        and o.worker_id is null and not o.expired and s.job_id = o.job_id
    returning s.job_id, o.status, s.attempt - 1 as attempt, o.error
),
finished as (
    insert into pgwerk.finished (job_id, status, attempt, worker_id, result, error, started_at)
    select job_id, status, attempt, worker_id, result, error, started_at from held
    union all
    select job_id, status, attempt, null, null, error, null from unreadied
    union all
    select job_id, status, attempt, null, null, error, null from unscheduled
    returning job_id
)
select
    job_id,
    case when exists (select from pgwerk.waiter w where w.job_id = finished.job_id offset 0)
        then pg_notify(:channel, 'ended ' || job_id)
    end as called
from finished;

-- name: send_back
-- Ends attempts, not jobs: `retry` uses the attempt up, `back` does not, and `unstarted` can still expire. The same
-- guard, the same answer.
with outcome as materialized (
    select * from json_to_recordset(:outcomes::json) as o (
        job_id bigint, worker_id bigint, claim_no bigint, status text, delay double precision, error text)
),
held as (
    delete from pgwerk.active a using outcome o
    where a.job_id = any (array(select job_id from outcome))
        and a.job_id = o.job_id and a.worker_id = o.worker_id and a.claim_no = o.claim_no
    returning a.job_id, a.worker_id, a.attempt, a.started_at, o.status, o.delay, o.error
),
tried as (
    insert into pgwerk.attempt (job_id, attempt, status, worker_id, error, started_at)
    select job_id, attempt, 'failed', worker_id, error, started_at from held where status = 'retry'
),
returned as (
    select
        h.job_id, h.attempt + (h.status = 'retry')::integer as attempt, h.delay, j.queue, j.priority,
        case when h.status = 'unstarted' and h.attempt = 1 then j.expires_at end as expires_at
    from held h
    cross join lateral (
        select queue, priority, greatest(scheduled_at, enqueued_at) + ttl * interval '1 second' as expires_at
        from pgwerk.job where id = h.job_id
        offset 0
    ) j
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, expires_at)
    select queue, priority, pgwerk.front_seq(), job_id, attempt, expires_at from returned where delay = 0
    order by job_id
),
set_aside as (
    insert into pgwerk.scheduled (job_id, due, queue, priority, attempt)
    select job_id, now() + delay * interval '1 second', queue, priority, attempt from returned where delay > 0
),
called as materialized (
    select pg_notify(:channel, 'ready ' || q.queue) from (select distinct queue from returned) q
    where exists (select from pgwerk.idle)
)
select held.job_id, (select count(*) from called) as calls from held;
