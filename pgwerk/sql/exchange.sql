-- The worker's conversation: claim what there is room for, settle (ending.sql) what has finished.

-- name: claim
-- Lanes come in the order of their claim; of each, the entries from `low` up to below `high`, `room` of them in all.
-- Whoever holds an entry's lock is about to take it. Of a queue that is paused nobody gets anything, nor does a worker
-- that was declared dead. A claim that a settle follows need not flush by itself: it is on disk before that one's answer.
--
-- As soon as one of them is in a group, this takes none, and where one stands among the active already, it fails: they
-- are left for claim_grouped, which costs a third more.
with candidate as materialized (
    select c.*
    from (
        select *
        from json_to_recordset(:lanes::json) as l (queue text, priority smallint, low bigint, high bigint)
        where not exists (select from pgwerk.pause p where p.queue = l.queue and p.paused_at is not null offset 0)
        offset 0
    ) l
    cross join lateral (
        select r.ctid as place, r.queue, r.priority, r.seq, r.job_id, r.attempt, r.group_key, r.expires_at
        from pgwerk.ready r
        where r.queue = l.queue and r.priority = l.priority and r.seq >= l.low and r.seq < l.high
        order by r.seq
        limit :room::bigint
        for update skip locked
    ) c
    where exists (select from pgwerk.worker w where w.id = :worker_id::bigint and w.state = 'alive')
    limit :room::bigint
),
asked as materialized (
    select
        c.*,
        j.function, j.payload, j.max_attempts, j.attempts_before, j.retry_intervals, j.timeout_secs, j.heartbeat_secs,
        j.key, j.meta, j.ttl, j.scheduled_at, j.enqueued_at, j.callback_of,
        j.on_success is not null or j.on_failure is not null or j.on_stopped is not null
            or (j.repeat_remaining > 0) is true or j.result_ttl is not null or j.failure_ttl is not null
            or j.failure_mode is not null as has_sequel,
        (select bool_and(group_key is null) from candidate) as is_free
    from candidate c
    left join lateral (select * from pgwerk.job where id = c.job_id offset 0) j on true
),
taken as (
    insert into pgwerk.active (job_id, worker_id, claim_no, attempt, expires_at, stale_at)
    select
        job_id, :worker_id::bigint, :claim_no::bigint, attempt, expires_at,
        case when heartbeat_secs > 0 then now() + greatest(2 * heartbeat_secs, 10) * interval '1 second' end
    from asked where is_free
),
gone as (
    delete from pgwerk.ready where ctid = any (array(select place from asked where is_free))
)
select
    a.job_id, a.attempt, a.expires_at < now() as is_expired,
    a.function, a.payload, a.max_attempts, a.attempts_before, a.retry_intervals, a.timeout_secs, a.heartbeat_secs,
    a.queue, a.priority, a.seq, a.group_key,
    a.key, a.meta, a.ttl, a.scheduled_at, a.enqueued_at, now() as started_at, a.callback_of, a.has_sequel,
    case when is_free then 'taken' else 'left' end as fate,
    case when :is_followed::boolean then set_config('synchronous_commit', 'off', true) end as durability
from asked a;

-- name: claim_grouped
-- The same for jobs of any kind; `span` of them are looked at, in search of `room`.
--
-- Of a group only the best entry of a queue may be taken, and only while nothing of the group is active; the unique
-- index has the last word. What cannot be taken is parked in `blocked`, if what stands in its way can be held: whoever
-- wants to remove that waits for us then, and frees what was parked. What cannot be held is on the move; the entry
-- stays where it is and is looked at again.
with candidate as materialized (
    select c.*, best.place as best_place
    from (
        select *
        from json_to_recordset(:lanes::json) as l (queue text, priority smallint, low bigint, high bigint)
        where not exists (select from pgwerk.pause p where p.queue = l.queue and p.paused_at is not null offset 0)
        offset 0
    ) l
    cross join lateral (
        select r.ctid as place, r.queue, r.priority, r.seq, r.job_id, r.attempt, r.group_key, r.expires_at
        from pgwerk.ready r
        where r.queue = l.queue and r.priority = l.priority and r.seq >= l.low and r.seq < l.high
        order by r.seq
        limit :span::bigint
        for update skip locked
    ) c
    left join lateral (
        select b.ctid as place from pgwerk.ready b
        where b.group_key = c.group_key and b.queue = c.queue
        order by b.priority desc, b.job_id limit 1
    ) best on true
    where exists (select from pgwerk.worker w where w.id = :worker_id::bigint and w.state = 'alive')
    limit :span::bigint
),
asked as materialized (
    select
        c.*,
        j.function, j.payload, j.max_attempts, j.attempts_before, j.retry_intervals, j.timeout_secs, j.heartbeat_secs,
        j.key, j.meta, j.ttl, j.scheduled_at, j.enqueued_at, j.callback_of,
        j.on_success is not null or j.on_failure is not null or j.on_stopped is not null
            or (j.repeat_remaining > 0) is true or j.result_ttl is not null or j.failure_ttl is not null
            or j.failure_mode is not null as has_sequel,
        c.group_key is null or (
            c.best_place = c.place
            and not exists (select from pgwerk.active a where a.group_key = c.group_key offset 0)
            and not exists (
                select from (
                    select b.priority, b.job_id from pgwerk.blocked b
                    where b.group_key = c.group_key and b.queue = c.queue
                    order by b.priority desc, +b.job_id limit 1
                ) b
                where b.priority > c.priority or (b.priority = c.priority and b.job_id < c.job_id)
                offset 0
            )
        ) as is_free
    from candidate c
    left join lateral (select * from pgwerk.job where id = c.job_id offset 0) j on true
),
taken as (
    insert into pgwerk.active (job_id, worker_id, claim_no, attempt, group_key, expires_at, stale_at)
    select
        job_id, :worker_id::bigint, :claim_no::bigint, attempt, group_key, expires_at,
        case when heartbeat_secs > 0 then now() + greatest(2 * heartbeat_secs, 10) * interval '1 second' end
    from (select * from asked where is_free limit :room::bigint) a
    order by group_key, job_id
    on conflict do nothing
    returning job_id
),
left_over as materialized (
    select * from asked where group_key is not null and job_id not in (select job_id from taken)
),
parked as (
    insert into pgwerk.blocked (job_id, group_key, queue, priority, attempt, expires_at)
    select o.job_id, o.group_key, o.queue, o.priority, o.attempt, o.expires_at
    from left_over o
    left join lateral (
        select true as held from pgwerk.active where group_key = o.group_key for key share skip locked
    ) a on true
    left join lateral (
        select true as held from pgwerk.ready
        where ctid = o.best_place and ctid <> o.place for key share skip locked
    ) b on true
    where a.held or b.held or o.group_key in (select group_key from asked where job_id in (select job_id from taken))
    returning job_id
),
gone as (
    delete from pgwerk.ready
    where ctid = any (array(
        select place from asked
        where job_id in (select job_id from taken) or job_id in (select job_id from parked)))
)
select
    a.job_id, a.attempt, a.expires_at < now() as is_expired,
    a.function, a.payload, a.max_attempts, a.attempts_before, a.retry_intervals, a.timeout_secs, a.heartbeat_secs,
    a.queue, a.priority, a.seq, a.group_key,
    a.key, a.meta, a.ttl, a.scheduled_at, a.enqueued_at, now() as started_at, a.callback_of, a.has_sequel,
    case
        when a.job_id in (select job_id from taken) then 'taken'
        when a.job_id in (select job_id from parked) then 'parked'
        else 'left'
    end as fate,
    case when :is_followed::boolean then set_config('synchronous_commit', 'off', true) end as durability
from asked a;

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
-- be gone), how often one of the queues was paused or resumed, and which transactions may still bring entries behind a
-- cursor: those from `oldest` up to `newest`, our own (a snapshot ends at the newest that is over, and so below some that
-- are not).
select
    (
        select coalesce(sum(changes), 0)::bigint from pgwerk.pause
        where queue = any (array(select json_array_elements_text(:queues::json)))
    ) as pause_changes,
    (
        select extract(epoch from due)::double precision from pgwerk.scheduled
        where due >= to_timestamp(:due_from::double precision) order by due limit 1
    ) as due,
    extract(epoch from clock_timestamp())::double precision as clock,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest,
    pg_current_xact_id()::text::bigint as newest;

-- name: orphans
-- Claims of ours whose answer was lost on the way: ours in the table, unknown here.
select a.job_id, a.claim_no, a.attempt
from pgwerk.active a
where a.worker_id = :worker_id::bigint and a.claim_no <= :newest_claim::bigint
    and a.job_id <> all (:running::bigint[]);

-- name: hurry
-- No chart is worth that jobs wait: whoever holds the table has it for now.
select set_config('lock_timeout', '100ms', true);

-- name: count_ended
-- Adds up what has ended here since the last time.
insert into pgwerk.tally (since, grain, queue, function, status, jobs, ran, run_secs, longest_secs)
select date_trunc('minute', now()), 0, t.queue, t.function, t.status, t.jobs, t.ran, t.run_secs, t.longest_secs
from json_to_recordset(:counts::json) as t (
    queue text, function text, status text, jobs bigint, ran bigint, run_secs double precision,
    longest_secs double precision);
