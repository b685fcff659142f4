-- What is asked before a deploy, and when something is wrong. Nothing here changes anything.

-- name: queued_page
-- The next entries of the scan, behind a place in it.
select job_id, queue, priority, seq from pgwerk.ready
where (queue, priority, seq) > (:queue::text, :priority::smallint, :seq::bigint)
order by queue, priority, seq
limit :page::bigint;

-- name: unqueued_page
-- Of what is not queued yet: scheduled, waiting for others, or for its group.
(select job_id from pgwerk.scheduled where job_id > :after::bigint order by job_id limit :page::bigint)
union all
(select job_id from pgwerk.waiting where job_id > :after::bigint order by job_id limit :page::bigint)
union all
(select job_id from pgwerk.blocked where job_id > :after::bigint order by job_id limit :page::bigint)
order by job_id
limit :page::bigint;

-- name: shapes
-- Which functions these jobs call, and with what: how many arguments by place, which by name. Alike ones together, with
-- the first of them. `payload` is what only the app's serializer can read.
select
    function, is_callback, positional, names, payload,
    count(*) as jobs, (array_agg(id order by id))[1:3] as ids
from (
    select
        j.id, j.function, j.callback_of is not null as is_callback,
        case when p.is_plain then jsonb_array_length(j.payload -> 'args') end as positional,
        case when p.is_plain then array(select jsonb_object_keys(j.payload -> 'kwargs')) end as names,
        case when not p.is_plain then j.payload end as payload
    from unnest(:ids::bigint[]) as wanted (id)
    cross join lateral (select * from pgwerk.job where job.id = wanted.id offset 0) j
    cross join lateral (
        select coalesce(
            jsonb_typeof(j.payload -> 'args') = 'array' and jsonb_typeof(j.payload -> 'kwargs') = 'object'
                and not j.payload -> 'kwargs' ? '$type',
            false) as is_plain
    ) p
) shaped
group by function, is_callback, positional, names, payload;
