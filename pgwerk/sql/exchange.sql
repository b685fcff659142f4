-- The worker's conversation: claim what there is room for, settle (ending.sql) what has finished.

-- name: claim
-- Lanes come in the order of their claim; of each, the entries from `low` up to below `high`. Whoever holds an
-- entry's lock is about to take it. A worker that was declared dead gets nothing. A claim that a settle follows need
-- not flush by itself: it is on disk before that one's answer.
with candidate as materialized (
    select c.*
    from json_to_recordset(:lanes::json) as l (queue text, priority smallint, low bigint, high bigint)
    cross join lateral (
        select r.queue, r.priority, r.seq, r.job_id, r.attempt, r.expires_at
        from pgwerk.ready r
        where r.queue = l.queue and r.priority = l.priority and r.seq >= l.low and r.seq < l.high
        order by r.seq
        limit :room::bigint
        for update skip locked
    ) c
    where exists (select from pgwerk.worker w where w.id = :worker_id::bigint and w.state = 'alive')
    limit :room::bigint
),
taken as (
    insert into pgwerk.active (job_id, worker_id, claim_no, attempt)
    select job_id, :worker_id::bigint, :claim_no::bigint, attempt from candidate
),
gone as (
    delete from pgwerk.ready where job_id = any (array(select job_id from candidate))
)
select
    c.job_id, c.attempt, c.expires_at < now() as is_expired,
    j.function, j.payload, j.max_attempts, j.retry_intervals, j.timeout_secs,
    c.queue, c.priority, c.seq,
    j.key, j.meta, j.ttl, j.scheduled_at, j.enqueued_at, now() as started_at,
    case when :is_followed::boolean then set_config('synchronous_commit', 'off', true) end as durability
from candidate c
left join lateral (select * from pgwerk.job where id = c.job_id offset 0) j on true;

-- name: look
-- What a claim cannot see: entries of a priority that no lane is for.
select g.queue, r.priority
from json_to_recordset(:gaps::json) as g (queue text, above integer, below integer)
cross join lateral (
    select priority from pgwerk.ready
    where ready.queue = g.queue and ready.priority > g.above and ready.priority < g.below
    order by priority desc limit 1
) r;

-- name: outlook
-- When the next scheduled job is due (seconds since 1970, and from now; what was due before `due_from` is known to
-- be gone), and which transactions may still bring entries behind a cursor: those from `oldest` up to `newest`.
select
    (
        select extract(epoch from due)::double precision from pgwerk.scheduled
        where due >= to_timestamp(:due_from::double precision) order by due limit 1
    ) as due,
    extract(epoch from clock_timestamp())::double precision as clock,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint as newest;

-- name: orphans
-- Claims of ours whose answer was lost on the way: ours in the table, unknown here.
select a.job_id, a.claim_no, a.attempt
from pgwerk.active a
where a.worker_id = :worker_id::bigint and a.claim_no <= :newest_claim::bigint
    and a.job_id <> all (:running::bigint[]);
