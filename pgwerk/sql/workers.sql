-- Who is there.

-- name: register_worker
insert into pgwerk.worker (name, kind, queues, concurrency, patience)
values (:name, :kind, array(select json_array_elements_text(:queues::json)), :concurrency, :patience)
returning id;

-- name: beat
-- One statement raises our own beat and reads everybody else's: `is_alive` is false once we were declared dead.
with mine as (
    update pgwerk.worker set beat = beat + 1 where id = :worker_id::bigint and state = 'alive' returning id
)
select
    exists (select from mine) as is_alive,
    (
        select array_agg(array[w.id, w.beat, ceil(w.patience * 1000)::bigint])
        from pgwerk.worker w where w.state = 'alive' and w.id <> :worker_id::bigint
    ) as others;

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
