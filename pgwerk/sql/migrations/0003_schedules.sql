-- serves code from version 2
--
-- Schedules. Nothing that a worker of version 2 knows has changed.

-- What schedules take for the time. A test may say otherwise.
create function pgwerk.clock() returns timestamptz language sql stable
    return statement_timestamp();

create domain pgwerk.schedule_name as text collate "C" check (char_length(value) between 1 and 200);

create table pgwerk.schedule (
    name          pgwerk.schedule_name primary key,
    owner         pgwerk.job_label,        -- the scheduler whose code registered it; null: made at run time
    function      pgwerk.job_function not null,
    payload       jsonb not null,
    options       pgwerk.job_meta not null,     -- of its jobs, in the words of `enqueue`
    cron          text,
    interval_secs double precision,
    tz            text not null,
    missed        text not null,
    overlap       text not null,
    jitter_secs   pgwerk.job_seconds not null,
    is_paused     boolean not null default false,
    next_run_at   timestamptz,                  -- null: never again
    last_run_at   timestamptz,                  -- the tick of the last job
    created_at    timestamptz not null default pgwerk.clock(),
    updated_at    timestamptz not null default pgwerk.clock(),
    check ((cron is null) <> (interval_secs is null)),
    check (interval_secs >= 1),
    check (missed in ('latest', 'all', 'skip')),
    check (overlap in ('allow', 'skip', 'queue'))
) with (fillfactor = 50, vacuum_truncate = off);
create index schedule_next on pgwerk.schedule (next_run_at) where not is_paused;

create index job_schedule on pgwerk.job (schedule_name, id) where schedule_name is not null;
