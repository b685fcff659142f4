-- What people ask and do.

-- name: get_jobs
select j.*
from unnest(:ids::bigint[]) as wanted (id)
cross join lateral (select * from pgwerk.jobs where jobs.id = wanted.id offset 0) j;

-- name: list_jobs
-- Newest first, from below `before` (an id): a page is cheap however far down it is.
select * from pgwerk.jobs
where (:before::bigint is null or id < :before::bigint)
    and (:queue::text is null or queue = :queue::text)
    and (:status::text is null or status = :status::text)
    and (:function::text is null or function = :function::text)
    and (:key::text is null or key = :key::text)
order by id desc
limit :limit::bigint offset :offset::bigint;

-- name: executions
select job_id, attempt, status, worker_id, error, null::jsonb as result, started_at, finished_at as completed_at
from pgwerk.attempt where job_id = :job_id::bigint
union all
select job_id, attempt, status, worker_id, error, result, started_at, finished_at as completed_at
from pgwerk.finished where job_id = :job_id::bigint and started_at is not null
union all
select job_id, attempt, 'active', worker_id, null, null, started_at, null
from pgwerk.active where job_id = :job_id::bigint
order by attempt;

-- name: is_pending
-- A job that is just moving between two rooms is in neither of them for the one who looked too early.
select
    exists (select from pgwerk.ready where job_id = :job_id::bigint)
    or exists (select from pgwerk.scheduled where job_id = :job_id::bigint) as is_pending;

-- name: wait_for
-- Register first, then look: an end that the look does not see yet will be notified.
insert into pgwerk.waiter (job_id, until)
select :job_id::bigint, now() + :seconds::double precision * interval '1 second'
where not exists (select from pgwerk.finished where job_id = :job_id::bigint);

-- name: ended_of
-- Those of the waited-for that have ended, or are gone altogether.
select w.id as job_id
from unnest(:ids::bigint[]) as w (id)
where exists (select from pgwerk.finished f where f.job_id = w.id offset 0)
    or not exists (select from pgwerk.job j where j.id = w.id offset 0);

-- name: stop_waiting
delete from pgwerk.waiter where job_id = any (:ids::bigint[]);
