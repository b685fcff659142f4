-- What the clock asks for, in bounded batches: what is left over is taken by the next round. Any number of workers
-- may do it at once: what is found here is ended by settle, which finds it only once.

-- name: duties
-- Which duties have something to do: one cheap look, so that an idle worker costs next to nothing.
select
    exists (
        select from pgwerk.active a
        where not exists (select from pgwerk.worker w where w.id = a.worker_id and w.state = 'alive')
    ) or exists (select from pgwerk.active where stale_at = '-infinity') as rescue,
    exists (select from pgwerk.ready where expires_at < now())
        or exists (select from pgwerk.blocked where expires_at < now()) as expire,
    exists (select from pgwerk.waiting where is_watched) as watch,
    exists (select from pgwerk.waiting where doom is not null) as doom,
    exists (select from pgwerk.blocked) as free,
    exists (select from pgwerk.finished where expires_at < now())
        or exists (
            select from pgwerk.finished
            where status = 'complete' and finished_at >= to_timestamp(:complete_at::double precision)
                and (finished_at, job_id) > (to_timestamp(:complete_at::double precision), :complete_id::bigint)
                and finished_at < now() - :result_ttl::double precision * interval '1 second')
        or exists (
            select from pgwerk.finished
            where status = 'failed' and finished_at >= to_timestamp(:failed_at::double precision)
                and (finished_at, job_id) > (to_timestamp(:failed_at::double precision), :failed_id::bigint)
                and finished_at < now() - :failure_ttl::double precision * interval '1 second')
        or exists (
            select from pgwerk.finished
            where status = 'aborted' and finished_at >= to_timestamp(:aborted_at::double precision)
                and (finished_at, job_id) > (to_timestamp(:aborted_at::double precision), :aborted_id::bigint)
                and finished_at < now() - :failure_ttl::double precision * interval '1 second')
        as forget,
    exists (select from pgwerk.worker where ended_at < now() - interval '1 day')
        or exists (select from pgwerk.waiter where until < now()) as tidy,
    exists (select from pgwerk.tally_to_add_up)
        or exists (select from pgwerk.tally where grain = 2 and since < now() - interval '100 days') as add_up;

-- name: promote
with due as materialized (
    select s.job_id
    from pgwerk.scheduled s
    where s.due >= to_timestamp(:due_from::double precision) and s.due <= now()
    order by s.due
    limit :batch::bigint
    for update skip locked
),
gone as (
    delete from pgwerk.scheduled where job_id = any (array(select job_id from due))
    returning job_id, due, queue, priority, attempt, group_key, ttl
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, group_key, expires_at)
    select queue, priority, pgwerk.front_seq(), job_id, attempt, group_key, due + ttl * interval '1 second'
    from gone order by due, job_id
),
calls as materialized (
    select pg_notify(:channel, 'ready ' || q.queue) from (select distinct queue from gone) q
    where exists (select from pgwerk.idle)
)
select count(*) as promoted, (select count(*) from calls) as calls from gone;

-- name: lost
-- Jobs held by workers that are not alive, and attempts that somebody has declared silent (workers.sql).
select
    a.job_id, a.worker_id, a.claim_no, a.attempt, a.is_aborting, w.state is not distinct from 'alive' as is_stale,
    w.name as worker_name, j.max_attempts, j.attempts_before, j.heartbeat_secs
from pgwerk.active a
left join pgwerk.worker w on w.id = a.worker_id
left join lateral (
    select max_attempts, attempts_before, heartbeat_secs from pgwerk.job where id = a.job_id offset 0
) j on true
where w.state is distinct from 'alive' or a.stale_at = '-infinity'
order by a.job_id
limit :batch::bigint;

-- name: expired
select e.job_id, j.ttl
from (
    (select job_id, expires_at from pgwerk.ready where expires_at < now() order by expires_at limit :batch::bigint)
    union all
    (select job_id, expires_at from pgwerk.blocked where expires_at < now() order by expires_at limit :batch::bigint)
) e
left join lateral (select ttl from pgwerk.job where id = e.job_id offset 0) j on true
limit :batch::bigint;

-- name: watch
-- Edges of which a job has ended unseen: the one that ended it could not see the edge yet, nor the one who tied it that
-- end. Rows from above `after`, and how far this look came; 0 if to the last. A row is watched until every transaction
-- that had begun by the first look has ended (those are below that look's own number; a snapshot's bounds would not do,
-- they end at the newest transaction that is over), and until nothing more is found: who finds may die before he tells.
with seen as materialized (
    select job_id, watch from pgwerk.waiting
    where is_watched and job_id > :after::bigint
    order by job_id limit :batch::bigint for update skip locked
),
unseen as materialized (
    select s.job_id, d.on_id
    from seen s
    cross join lateral (select on_id, is_met from pgwerk.dependency where job_id = s.job_id offset 0) d
    where not d.is_met and (
        exists (select from pgwerk.finished f where f.job_id = d.on_id offset 0)
        or not exists (select from pgwerk.job j where j.id = d.on_id offset 0))
),
noted as (
    update pgwerk.waiting
    set is_watched = watch is null, watch = coalesce(watch, pg_current_xact_id())
    where job_id = any (array(
        select job_id from seen
        where watch is null or (
            watch <= pg_snapshot_xmin(pg_current_snapshot()) and job_id not in (select job_id from unseen))))
)
select
    (select case when count(*) = :batch::bigint then max(job_id) else 0 end from seen) as reached,
    (select coalesce(array_agg(distinct on_id), '{}') from unseen) as ended;

-- name: doomed
select job_id, doom from pgwerk.waiting where doom is not null order by job_id limit :batch::bigint;

-- name: stranded
-- Jobs that are blocked by nothing. There should be none: what blocks them frees them. Groups from above `after`.
with recursive g as (
    (select group_key, 1 as place from pgwerk.blocked where group_key > :after::text order by group_key limit 1)
    union all
    select
        (
            select b.group_key from pgwerk.blocked b
            where b.group_key > g.group_key order by b.group_key limit 1
        ),
        g.place + 1
    from g where g.group_key is not null and g.place < :batch::bigint
)
select
    max(g.group_key) as reached,
    coalesce(array_agg(b.job_id) filter (where b.job_id is not null), '{}') as stranded
from (
    select
        g.group_key,
        not exists (select from pgwerk.active a where a.group_key = g.group_key offset 0)
            and not exists (select from pgwerk.ready r where r.group_key = g.group_key offset 0) as is_free
    from g
) g
left join lateral (
    select job_id from pgwerk.blocked where group_key = g.group_key order by queue, priority desc, +job_id limit 1
) b on g.is_free
where g.group_key is not null;

-- name: outdated
-- Ended jobs whose own time is over.
select job_id from pgwerk.forgettable
where expires_at < now()
order by expires_at
limit :batch::bigint;

-- name: outlived
-- Of the jobs that ended longer ago than the app keeps them, the next after one that ended `since`: how far this look
-- came, which of them may go (they said nothing of how long they are to be kept), and whether that is all of those.
with seen as materialized (
    select job_id, finished_at, expires_at is null as is_due
    from pgwerk.finished
    where status = :status::text and finished_at >= to_timestamp(:since::double precision)
        and (finished_at, job_id) > (to_timestamp(:since::double precision), :after::bigint)
        and finished_at < now() - :seconds::double precision * interval '1 second'
    order by finished_at, job_id
    limit :batch::bigint
),
furthest as (
    select finished_at, job_id from seen order by finished_at desc, job_id desc limit 1
)
select
    count(*) as seen,
    (select extract(epoch from finished_at)::double precision from furthest) as finished_at,
    (select job_id from furthest) as job_id,
    coalesce(array_agg(s.job_id) filter (where f.job_id is not null), '{}') as outlived,
    coalesce(bool_and(f.job_id is not null) filter (where s.is_due), true) as is_all
from seen s
left join lateral (select job_id from pgwerk.forgettable where job_id = s.job_id offset 0) f on s.is_due;

-- name: forget
-- Everything about these ended jobs and their callbacks, but for what somebody has in hand just now.
with chosen as materialized (
    select job_id from pgwerk.forgettable where job_id = any (:ids::bigint[]) for update skip locked
),
kin as materialized (
    select job_id from chosen
    union
    select c.id from chosen
    cross join lateral (select id from pgwerk.job where callback_of = chosen.job_id offset 0) c
),
ends as (
    delete from pgwerk.finished where job_id = any (array(select job_id from kin))
),
attempts as (
    delete from pgwerk.attempt where job_id = any (array(select job_id from kin))
),
edges as (
    delete from pgwerk.dependency where job_id = any (array(select job_id from kin))
),
jobs as (
    delete from pgwerk.job where id = any (array(select job_id from kin))
)
select job_id from chosen;

-- name: forget_workers
delete from pgwerk.worker where id in (
    select id from pgwerk.worker where ended_at < now() - interval '1 day' limit :batch::bigint for update skip locked
);

-- name: forget_waiters
delete from pgwerk.waiter where id in (
    select id from pgwerk.waiter where until < now() limit :batch::bigint for update skip locked
);

-- name: add_up
-- What was reported second by second is added up by the minute, and after three days by the hour, a batch at a time.
with chosen as materialized (
    select id, period from pgwerk.tally_to_add_up limit :batch::bigint for update skip locked
),
gone as (
    delete from pgwerk.tally t using chosen c
    where t.id = any (array(select id from chosen)) and t.id = c.id
    returning t.*, c.period
)
insert into pgwerk.tally (since, grain, queue, function, status, jobs, ran, run_secs, longest_secs)
select period, grain + 1, queue, function, status, sum(jobs), sum(ran), sum(run_secs), max(longest_secs)
from gone
group by period, grain, queue, function, status;

-- name: forget_tally
delete from pgwerk.tally where id in (
    select id from pgwerk.tally where grain = 2 and since < now() - interval '100 days'
    order by since limit :batch::bigint for update skip locked
);
