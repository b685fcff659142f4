-- What the clock asks for, in bounded batches: what is left over is taken by the next round. Any number of workers
-- may do it at once: what is found here is ended by settle, which finds it only once.

-- name: duties
-- Which duties have something to do: one cheap look, so that an idle worker costs next to nothing.
select
    exists (
        select from pgwerk.active a
        where not exists (select from pgwerk.worker w where w.id = a.worker_id and w.state = 'alive')
    ) as rescue,
    exists (select from pgwerk.ready where expires_at < now()) as expire,
    exists (select from pgwerk.worker where ended_at < now() - interval '1 day')
        or exists (select from pgwerk.waiter where until < now()) as tidy;

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
    returning job_id, due, queue, priority, attempt, ttl
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, expires_at)
    select queue, priority, pgwerk.front_seq(), job_id, attempt, due + ttl * interval '1 second'
    from gone order by due, job_id
),
calls as materialized (
    select pg_notify(:channel, 'ready ' || q.queue) from (select distinct queue from gone) q
    where exists (select from pgwerk.idle)
)
select count(*) as promoted, (select count(*) from calls) as calls from gone;

-- name: lost
-- Jobs held by workers that are not alive.
select
    a.job_id, a.worker_id, a.claim_no, a.attempt, w.name as worker_name, j.max_attempts
from pgwerk.active a
left join pgwerk.worker w on w.id = a.worker_id
left join lateral (select max_attempts from pgwerk.job where id = a.job_id offset 0) j on true
where w.state is distinct from 'alive'
order by a.job_id
limit :batch::bigint;

-- name: expired
select r.job_id, j.ttl
from pgwerk.ready r
left join lateral (select ttl from pgwerk.job where id = r.job_id offset 0) j on true
where r.expires_at < now()
order by r.expires_at
limit :batch::bigint;

-- name: forget_workers
delete from pgwerk.worker where id in (
    select id from pgwerk.worker where ended_at < now() - interval '1 day' limit :batch::bigint for update skip locked
);

-- name: forget_waiters
delete from pgwerk.waiter where id in (
    select id from pgwerk.waiter where until < now() limit :batch::bigint for update skip locked
);
