-- Who is there.

-- name: register_worker
insert into pgwerk.worker (name, kind, queues, concurrency, patience)
values (:name, :kind, array(select json_array_elements_text(:queues::json)), :concurrency, :patience)
returning id;

-- name: beat
-- One statement raises our own beat and reads everybody else's: `is_alive` is false once we were declared dead. Also
-- the attempts whose own sign of life (`_heartbeat`) is missing: anybody's that will count as lost in `patience` seconds,
-- and that nobody has declared silent yet.
with mine as (
    update pgwerk.worker set beat = beat + 1 where id = :worker_id::bigint and state = 'alive' returning id
)
select
    exists (select from mine) as is_alive,
    (
        select array_agg(array[w.id, w.beat, ceil(w.patience * 1000)::bigint])
        from pgwerk.worker w where w.state = 'alive' and w.id <> :worker_id::bigint
    ) as others,
    (
        select array_agg(array[a.job_id, a.worker_id, a.claim_no])
        from (
            select job_id, worker_id, claim_no from pgwerk.active
            where stale_at > '-infinity' and stale_at < now() + :patience::double precision * interval '1 second'
            order by stale_at limit :batch::bigint
        ) a
    ) as silent;

-- name: declare_dead
-- Only if the beat is still the one that was seen too long.
with dead as (
    update pgwerk.worker set state = 'dead', ended_at = now()
    where id = :worker_id::bigint and beat = :beat::bigint and state = 'alive'
    returning id, name
),
awake as (
    delete from pgwerk.idle i using dead where i.worker_id = dead.id
)
select name from dead;

-- name: is_waited_for
-- Whether the server waits for the client of that session, or has given it up: if the client waits too, the network has
-- swallowed what was said. Who may not see the session knows nothing of it.
select not exists (
    select from pg_stat_activity
    where pid = :pid::integer
        and (wait_event_type = 'Client' and state_change < now() - interval '1 second') is not true
) as is_waited_for;

-- name: declare_silent
-- Only if no sign of life has come in the meantime. What is on the move is not silent.
with silent as materialized (
    select a.job_id
    from json_to_recordset(:attempts::json) as s (job_id bigint, worker_id bigint, claim_no bigint)
    cross join lateral (
        select job_id from pgwerk.active
        where active.job_id = s.job_id and active.worker_id = s.worker_id and active.claim_no = s.claim_no
            and active.stale_at < now()
        for update skip locked
    ) a
)
update pgwerk.active set stale_at = '-infinity'
where job_id = any (array(select job_id from silent));

-- name: stop_worker
with stopped as (
    update pgwerk.worker set state = 'stopped', ended_at = now()
    where id = :worker_id::bigint and state = 'alive'
    returning id
)
delete from pgwerk.idle i using stopped where i.worker_id = stopped.id;

-- name: announce_idle
insert into pgwerk.idle (worker_id)
select id from pgwerk.worker where id = :worker_id::bigint and state = 'alive'
on conflict do nothing;

-- name: withdraw_idle
delete from pgwerk.idle where worker_id = :worker_id::bigint;

-- name: touch
-- Renews the signs of life of attempts that promised some. The answer names those that are still ours.
with sign as materialized (
    select * from json_to_recordset(:signs::json) as s (job_id bigint, claim_no bigint, heartbeat double precision)
)
update pgwerk.active a
set touched_at = now(), stale_at = now() + greatest(2 * s.heartbeat, 10) * interval '1 second'
from sign s
where a.job_id = any (array(select job_id from sign))
    and a.job_id = s.job_id and a.claim_no = s.claim_no and a.worker_id = :worker_id::bigint
returning a.job_id;

-- name: aborting
-- Which of our jobs somebody wants to end.
select job_id, claim_no from pgwerk.active where worker_id = :worker_id::bigint and is_aborting;
