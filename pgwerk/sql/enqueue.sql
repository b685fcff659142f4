-- Where jobs come from.
--
-- Each takes its id, which is its place in the queue too, after its transaction has taken a number: what a worker's
-- cursor has passed can then be told apart from what is still on its way.

-- name: enqueue_one
-- A job that may run at once, of which nothing needs to be known before (no key, no dependencies, no time, nobody who
-- waits) and whose options are plain values: most single ones. To say it in JSON would cost half as much again.
with inserted as (
    insert into pgwerk.job (
        function, payload, queue, priority, group_key, max_attempts, timeout_secs, heartbeat_secs, ttl, result_ttl,
        failure_ttl, failure_mode)
    select
        :function, :payload, :queue, :priority, :group_key, :max_attempts, :timeout_secs, :heartbeat_secs, :ttl,
        :result_ttl, :failure_ttl, :failure_mode
    where pg_current_xact_id() is not null
    returning id, queue, priority, group_key, ttl
)
insert into pgwerk.ready (queue, priority, seq, job_id, attempt, group_key, expires_at)
select queue, priority, id, id, 1, group_key, statement_timestamp() + ttl * interval '1 second'
from inserted
returning
    array[job_id] as ids,
    statement_timestamp() as enqueued_at,
    case when :always::boolean or exists (select from pgwerk.idle) then pg_notify(:channel, 'ready ' || queue) end as calls;

-- name: enqueue_now
-- Any number of jobs of that kind, with any options, in runs of jobs that differ by nothing but their payloads: what
-- they have in common is read once. Ids and places are taken in the order of the rows; of the answer the ids are all
-- that differs.
with inserted as materialized (
    insert into pgwerk.job (
        function, payload, queue, priority, group_key, meta, max_attempts, retry_intervals, timeout_secs,
        heartbeat_secs, ttl, result_ttl, failure_ttl, failure_mode, on_success, on_failure, on_stopped,
        repeat_remaining, repeat_intervals)
    select
        j.function, p.value::jsonb, j.queue, j.priority, j.group_key, j.meta, j.max_attempts, j.retry_intervals,
        j.timeout_secs, j.heartbeat_secs, j.ttl, j.result_ttl, j.failure_ttl, j.failure_mode, j.on_success,
        j.on_failure, j.on_stopped, j.repeat_remaining, j.repeat_intervals
    from json_to_recordset(:runs::json) as run (alike json, payloads json)
    cross join lateral json_populate_record(null::pgwerk.job, run.alike) j
    cross join lateral json_array_elements(run.payloads) p
    where pg_current_xact_id() is not null
    returning id, queue, priority, group_key, ttl
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, group_key, expires_at)
    select queue, priority, id, id, 1, group_key, statement_timestamp() + ttl * interval '1 second'
    from inserted
)
select
    array_agg(id) as ids,
    statement_timestamp() as enqueued_at,
    -- the server sends the same words once, however often they are said in a transaction; an aggregate around the case,
    -- as one inside it would be computed all the same
    count(case when :always::boolean or exists (select from pgwerk.idle)
        then pg_notify(:channel, 'ready ' || queue)
    end) as calls
from inserted;

-- name: enqueue
-- Rows in the caller's order, one answer for each: `fresh` is false where the key was taken. Nothing at all is written
-- if a dependency is not known.
-- Keys are inserted in key order, so that two callers with the same keys wait for each other and never in a ring.
with spec as materialized (
    select
        nextval('pgwerk.job_id_seq') as id,
        s.*,
        greatest(s.at, statement_timestamp() + s.delay * interval '1 second') as due
    from rows from (json_to_recordset(:specs::json) as (
        function text, payload jsonb, queue text, priority smallint, key text, group_key text, meta jsonb,
        max_attempts integer, retry_intervals double precision[], timeout_secs double precision,
        heartbeat_secs double precision, ttl double precision, result_ttl double precision, failure_ttl double precision,
        failure_mode text, on_success jsonb, on_failure jsonb, on_stopped jsonb, repeat_remaining integer,
        repeat_intervals double precision[], depends_on json, delay double precision, at timestamptz,
        waited double precision, waiter bigint, schedule_name text
    )) with ordinality as s (
        function, payload, queue, priority, key, group_key, meta, max_attempts, retry_intervals, timeout_secs,
        heartbeat_secs, ttl, result_ttl, failure_ttl, failure_mode, on_success, on_failure, on_stopped,
        repeat_remaining, repeat_intervals, depends_on, delay, at, waited, waiter, schedule_name,
        place)
    where pg_current_xact_id() is not null
),
-- A dependency is a job that is there, or another one of this call.
edge as materialized (
    select
        s.id as job_id, d.on_id, other.id as other_id, other.key as other_key, d.allow_failure,
        d.on_id is not null and not exists (select from pgwerk.job j where j.id = d.on_id offset 0) as is_unknown
    from spec s
    cross join lateral json_to_recordset(s.depends_on) as d (on_id bigint, on_place bigint, allow_failure boolean)
    left join spec other on other.place = d.on_place
    where s.depends_on is not null
),
inserted as (
    insert into pgwerk.job (
        id, function, payload, queue, priority, key, group_key, meta, max_attempts, retry_intervals, timeout_secs,
        heartbeat_secs, ttl, result_ttl, failure_ttl, failure_mode, on_success, on_failure, on_stopped,
        repeat_remaining, repeat_intervals, scheduled_at, schedule_name)
    select
        id, function, payload, queue, priority, key, group_key, meta, max_attempts, retry_intervals, timeout_secs,
        heartbeat_secs, ttl, result_ttl, failure_ttl, failure_mode, on_success, on_failure, on_stopped,
        repeat_remaining, repeat_intervals, due, schedule_name
    from spec
    where not exists (select from edge where is_unknown)
    order by key, place
    on conflict (key) where key is not null do nothing
    returning id
),
fresh as materialized (
    select
        s.*,
        case when s.status = 'queued' then statement_timestamp() + s.ttl * interval '1 second' end as expires_at
    from (
        select
            spec.*,
            case
                when spec.depends_on is not null then 'waiting'
                when spec.due > statement_timestamp() then 'scheduled'
                else 'queued'
            end as status
        from spec join inserted using (id)
    ) s
    order by place
),
readied as (
    insert into pgwerk.ready (queue, priority, seq, job_id, attempt, group_key, expires_at)
    select queue, priority, id, id, 1, group_key, expires_at
    from fresh where status = 'queued'
),
set_aside as (
    insert into pgwerk.scheduled (job_id, due, queue, priority, attempt, group_key, ttl)
    select id, due, queue, priority, 1, group_key, ttl from fresh where status = 'scheduled'
),
-- Of one whose key was taken, whoever holds it. Who took it while we waited for him is not to be seen from here: null,
-- which no dependency may be, so that nothing is written and the caller comes again.
tie as materialized (
    select e.job_id, coalesce(e.on_id, own.id, holder.id) as on_id, bool_and(e.allow_failure) as allow_failure
    from edge e
    join inserted on inserted.id = e.job_id
    left join inserted own on own.id = e.other_id
    left join pgwerk.job holder on holder.key = e.other_key and own.id is null
    group by 1, 2
),
kept_waiting as (
    insert into pgwerk.waiting (job_id, queue, priority, group_key, due, ttl, unmet)
    select fresh.id, queue, priority, group_key, due, ttl, t.edges
    from fresh join (select job_id, count(*) as edges from tie group by job_id) t on t.job_id = fresh.id
),
tied as (
    insert into pgwerk.dependency (job_id, on_id, allow_failure) select job_id, on_id, allow_failure from tie
),
watched as (
    insert into pgwerk.waiter (id, job_id, until)
    select waiter, id, statement_timestamp() + waited * interval '1 second' from fresh where waited is not null
),
-- at most one notification a queue, and none where no worker has said that it is idle: the commit of a
-- transaction that notifies takes a lock of the whole server. A transaction of unknown length always notifies.
called as materialized (
    select pg_notify(:channel, 'ready ' || queue)
    from (select distinct queue from fresh where status <> 'waiting') q
    where :always::boolean or exists (select from pgwerk.idle)
)
select
    spec.id,
    fresh.id is not null as fresh,
    fresh.status,
    spec.due as scheduled_at,
    statement_timestamp() as enqueued_at,
    fresh.expires_at,
    (select array_agg(distinct on_id) from edge where is_unknown) as unknown,
    (select count(*) from called) as calls
from spec left join fresh using (id)
order by spec.place;
