-- Where jobs come from.

-- name: enqueue
-- Rows in the caller's order, one answer for each: `fresh` is false where the key was taken.
-- Keys are inserted in key order, so that two callers with the same keys wait for each other and never in a ring;
-- places in the queue are taken in the caller's order, after the job rows (and so after the transaction has its
-- number: what a worker's cursor has passed can then be told apart from what is still on its way).
with spec as materialized (
    select
        nextval('pgwerk.job_id_seq') as id,
        s.*,
        greatest(s.at, statement_timestamp() + s.delay * interval '1 second') as due
    from rows from (json_to_recordset(:specs::json) as (
        function text, payload jsonb, queue text, priority smallint, key text, meta jsonb, max_attempts integer,
        retry_intervals double precision[], timeout double precision, ttl double precision,
        delay double precision, at timestamptz, waited double precision
    )) with ordinality as s (
        function, payload, queue, priority, key, meta, max_attempts,
        retry_intervals, timeout, ttl, delay, at, waited, place)
),
inserted as (
    insert into pgwerk.job (
        id, function, payload, queue, priority, key, meta, max_attempts, retry_intervals, timeout_secs, ttl,
        scheduled_at)
    select
        id, function, payload, queue, priority, key, meta, max_attempts, retry_intervals, timeout, ttl,
        due
    from spec
    order by key, place
    on conflict (key) where key is not null do nothing
    returning id
),
fresh as materialized (
    select spec.*, coalesce(spec.due <= statement_timestamp(), true) as is_due
    from spec join inserted using (id)
    order by place
),
readied as (
    insert into pgwerk.ready (queue, priority, job_id, attempt, expires_at)
    select queue, priority, id, 1, statement_timestamp() + ttl * interval '1 second'
    from fresh where is_due order by place
),
set_aside as (
    insert into pgwerk.scheduled (job_id, due, queue, priority, attempt, ttl)
    select id, due, queue, priority, 1, ttl from fresh where not is_due
),
waiting as (
    insert into pgwerk.waiter (job_id, until)
    select id, statement_timestamp() + waited * interval '1 second' from fresh where waited is not null
),
-- at most one notification a queue, and none where no worker has said that it is idle: the commit of a
-- transaction that notifies takes a lock of the whole server. A transaction of unknown length always notifies.
called as materialized (
    select pg_notify(:channel, 'ready ' || queue)
    from (select distinct queue from fresh) q
    where :always::boolean or exists (select from pgwerk.idle)
)
select
    spec.id,
    fresh.id is not null as fresh,
    not fresh.is_due as is_scheduled,
    spec.due as scheduled_at,
    statement_timestamp() as enqueued_at,
    (select count(*) from called) as calls
from spec left join fresh using (id)
order by spec.place;
