-- What people see of queues, workers and the server.

-- name: list_workers
select w.*, (select count(*) from pgwerk.active a where a.worker_id = w.id) as running
from pgwerk.worker w
where :worker_id::bigint is null or w.id = :worker_id::bigint
order by w.id;

-- name: list_queues
-- What stands in every queue, as far as that can be said at once: of each kind `most` are counted at most, and fewer of
-- a queue where there are thousands of them. Ready entries are counted along their index, a queue at a time; of what
-- has no index by queue, the first `most` of all queues.
with recursive lane as (
    (select queue, priority from pgwerk.ready order by queue, priority limit 1)
    union all
    select next.queue, next.priority
    from lane cross join lateral (
        select queue, priority from pgwerk.ready r
        where (r.queue, r.priority) > (lane.queue, lane.priority) order by queue, priority limit 1
    ) next
),
-- the first of those that came back, and the first of the others
head as (
    select lane.queue, min(greatest(j.enqueued_at, j.scheduled_at)) as oldest_at
    from lane
    cross join (values (-9223372036854775808, -1), (0, 9223372036854775807)) part (low, high)
    cross join lateral (
        select r.job_id from pgwerk.ready r
        where r.queue = lane.queue and r.priority = lane.priority and r.seq between part.low and part.high
        order by r.seq limit 1
    ) r
    cross join lateral (select enqueued_at, scheduled_at from pgwerk.job where id = r.job_id offset 0) j
    group by lane.queue
),
part as (
    select h.queue, 'queued' as kind, count(*) as jobs, count(*) = max(h.most) as is_cut
    from (select queue, least(:most::bigint, greatest(50, 50 * :most::bigint / count(*) over ())) as most from head) h
    cross join lateral (select from pgwerk.ready r where r.queue = h.queue limit h.most) r
    group by h.queue
    union all
    select queue, 'queued', count(*), sum(count(*)) over () = :most::bigint
    from (select queue from pgwerk.blocked limit :most::bigint) b group by queue
    union all
    select queue, 'scheduled', count(*), sum(count(*)) over () = :most::bigint
    from (select queue from pgwerk.scheduled order by due limit :most::bigint) s group by queue
    union all
    select queue, 'waiting', count(*), sum(count(*)) over () = :most::bigint
    from (select queue from pgwerk.waiting limit :most::bigint) w group by queue
    union all
    select j.queue, 'active', count(*), sum(count(*)) over () = :most::bigint
    from (select job_id from pgwerk.active limit :most::bigint) a
    cross join lateral (select queue from pgwerk.job where id = a.job_id offset 0) j
    group by j.queue
    union all
    select q, 'workers', count(*), false
    from pgwerk.worker w cross join unnest(w.queues) q where w.state = 'alive' group by q
    union all
    select queue, 'at work', 1, false from pgwerk.pace
    union all
    select queue, 'paused', 1, false from pgwerk.pause where paused_at is not null
)
select
    q.queue, q.queued, q.scheduled, q.waiting, q.active, q.workers, head.oldest_at as oldest_queued_at,
    coalesce(pace.rate, 0) as rate, p.paused_at, q.at_least
from (
    select
        queue,
        coalesce(sum(jobs) filter (where kind = 'queued'), 0)::bigint as queued,
        coalesce(sum(jobs) filter (where kind = 'scheduled'), 0)::bigint as scheduled,
        coalesce(sum(jobs) filter (where kind = 'waiting'), 0)::bigint as waiting,
        coalesce(sum(jobs) filter (where kind = 'active'), 0)::bigint as active,
        coalesce(sum(jobs) filter (where kind = 'workers'), 0)::bigint as workers,
        coalesce(array_agg(distinct kind) filter (where is_cut), '{}') as at_least
    from part group by queue
) q
left join head using (queue)
left join pgwerk.pace using (queue)
left join pgwerk.pause p using (queue)
order by queue;

-- name: queue_stats
-- What has not ended, by queue; callbacks only where they are asked for.
with standing as (
    select queue, 'queued' as status, job_id from pgwerk.ready
    union all select queue, 'queued', job_id from pgwerk.blocked
    union all select queue, 'scheduled', job_id from pgwerk.scheduled
    union all select queue, 'waiting', job_id from pgwerk.waiting
    union all select j.queue, case when is_aborting then 'aborting' else 'active' end, a.job_id
    from pgwerk.active a join pgwerk.job j on j.id = a.job_id
)
select
    s.queue,
    count(*) filter (where s.status = 'queued') as queued,
    count(*) filter (where s.status = 'scheduled') as scheduled,
    count(*) filter (where s.status = 'waiting') as waiting,
    count(*) filter (where s.status = 'active') as active,
    count(*) filter (where s.status = 'aborting') as aborting,
    min(greatest(j.enqueued_at, j.scheduled_at)) filter (where s.status = 'queued') as oldest_queued_at
from standing s
join pgwerk.job j on j.id = s.job_id
where :callbacks::boolean or j.callback_of is null
group by s.queue
order by s.queue;

-- name: pause_queue
insert into pgwerk.pause as p (queue, paused_at) values (:queue, now())
on conflict (queue) do update set paused_at = now(), changes = p.changes + 1 where p.paused_at is null
returning queue;

-- name: resume_queue
-- Those who wait for its jobs look again.
with resumed as (
    update pgwerk.pause set paused_at = null, changes = changes + 1
    where queue = :queue and paused_at is not null
    returning queue
)
select pg_notify(:channel, 'ready ' || queue) from resumed;

-- name: throughput
-- Attempts that ended in each of the last minutes.
select
    since as minute,
    coalesce(sum(jobs) filter (where status = 'complete'), 0)::bigint as complete,
    coalesce(sum(jobs) filter (where status = 'failed'), 0)::bigint as failed,
    coalesce(sum(jobs) filter (where status = 'aborted'), 0)::bigint as aborted,
    coalesce(sum(jobs) filter (where status = 'retry'), 0)::bigint as retried
from pgwerk.tally
where grain = any ('{0,1,2}') and since > now() - :minutes::bigint * interval '1 minute' - interval '1 minute'
    and (:queue::text is null or queue = :queue::text)
group by since
order by since;

-- name: function_stats
-- By function, those first that took the most time.
select
    function,
    coalesce(sum(jobs) filter (where status = 'complete'), 0)::bigint as complete,
    coalesce(sum(jobs) filter (where status = 'failed'), 0)::bigint as failed,
    coalesce(sum(jobs) filter (where status = 'aborted'), 0)::bigint as aborted,
    coalesce(sum(jobs) filter (where status = 'retry'), 0)::bigint as retried,
    sum(run_secs) as run_secs,
    coalesce(sum(run_secs) / nullif(sum(ran), 0)::double precision, 0) as mean_secs,
    max(longest_secs) as longest_secs
from pgwerk.tally
where grain = any ('{0,1,2}') and since > now() - :minutes::bigint * interval '1 minute' - interval '1 minute'
    and (:queue::text is null or queue = :queue::text)
group by function
order by run_secs desc, function;

-- name: server_info
select
    current_setting('server_version') as version,
    pg_database_size(current_database()) as database_bytes,
    sum(pg_total_relation_size(c.oid))::bigint as schema_bytes
from pg_class c
where c.relnamespace = to_regnamespace(:quoted_schema::text) and c.relkind = 'r';

-- name: vacuum
vacuum (analyze)
    pgwerk.job, pgwerk.ready, pgwerk.blocked, pgwerk.scheduled, pgwerk.waiting, pgwerk.dependency, pgwerk.active,
    pgwerk.attempt, pgwerk.finished, pgwerk.waiter, pgwerk.worker, pgwerk.idle, pgwerk.schedule,
    pgwerk.tally, pgwerk.pause;

-- name: why
-- What keeps a job from running, or runs it: what it waits for, who stands in its way, who could take it, and how many
-- come before it (at most `most` are counted).
select
    j.*,
    own.name as worker_name,
    unmet.jobs as unmet,
    rival.id as rival_id, rival.function as rival_function, rival.status as rival_status,
    rival.started_at as rival_started_at, holder.name as rival_worker,
    (select count(*) from pgwerk.worker w where w.state = 'alive' and j.queue = any (w.queues)) as workers,
    ahead.jobs as ahead,
    pace.rate,
    paused.paused_at
from pgwerk.jobs j
left join pgwerk.worker own on own.id = j.worker_id
left join lateral (
    select jsonb_agg(jsonb_build_object('id', o.id, 'function', o.function, 'status', o.status) order by o.id) as jobs
    from pgwerk.dependency d
    cross join lateral (select * from pgwerk.jobs where id = d.on_id offset 0) o
    where d.job_id = j.id and not d.is_met
) unmet on j.status = 'waiting'
left join lateral (
    select job_id from (
        (select job_id, 1 as place from pgwerk.active where group_key = j.group_key)
        union all
        (
            select job_id, 2 from pgwerk.ready
            where group_key = j.group_key and queue = j.queue order by priority desc, job_id limit 1
        )
        union all
        (
            select job_id, 3 from pgwerk.blocked
            where group_key = j.group_key and queue = j.queue order by priority desc, +job_id limit 1
        )
    ) r
    where job_id <> j.id order by place limit 1
) in_the_way on j.is_blocked
left join lateral (select * from pgwerk.jobs where id = in_the_way.job_id offset 0) rival on true
left join pgwerk.worker holder on holder.id = rival.worker_id
left join lateral (
    select r.priority, r.seq from pgwerk.ready r where r.ctid = pgwerk.place_of(j.id)
) place on j.status = 'queued'
left join lateral (
    select count(*) as jobs from (
        select from pgwerk.ready r
        where r.queue = j.queue and (r.priority > place.priority or (r.priority = place.priority and r.seq < place.seq))
        limit :most::bigint
    ) r
) ahead on place.seq is not null
left join lateral (select rate from pgwerk.pace where queue = j.queue offset 0) pace on place.seq is not null
left join pgwerk.pause paused on paused.queue = j.queue
where j.id = :job_id::bigint;
