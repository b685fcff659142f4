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
-- Which functions these jobs call, and with what: how many arguments by place, which by name; and which are called back
-- when they end. Alike ones together, with the first of the jobs; with all of them, where only the app's serializer can
-- read the arguments.
with asked as materialized (
    select
        j.id, j.function, j.callback_of is not null as is_callback, j.on_success, j.on_failure, j.on_stopped,
        case when p.is_plain then jsonb_array_length(j.payload -> 'args') end as positional,
        case when p.is_plain then array(select jsonb_object_keys(j.payload -> 'kwargs')) end as names
    from unnest(:ids::bigint[]) as wanted (id)
    cross join lateral (select * from pgwerk.job where job.id = wanted.id offset 0) j
    cross join lateral (
        select coalesce(
            jsonb_typeof(j.payload -> 'args') = 'array' and jsonb_typeof(j.payload -> 'kwargs') = 'object'
                and not j.payload -> 'kwargs' ? '$type',
            false) as is_plain
    ) p
)
select
    function, is_callback, true as is_own, positional, names, null::jsonb as payload,
    count(*) as jobs, case when names is null then array_agg(id) else (array_agg(id order by id))[1:3] end as ids
from asked
group by function, is_callback, positional, names
union all
select
    call ->> 'function', true, false, null, null, null,
    count(distinct id), (array_agg(distinct id))[1:3]
from asked
cross join lateral (values (on_success), (on_failure), (on_stopped)) sequel (call)
where call is not null
group by call ->> 'function';

-- name: payloads
select id, payload from pgwerk.job where id = any (:ids::bigint[]);

-- name: server
select
    current_user::text as role, current_database()::text as database,
    current_setting('server_version') as version, current_setting('server_version_num')::integer as number,
    current_setting('transaction_read_only')::boolean as is_read_only;

-- name: server_clock
select extract(epoch from clock_timestamp())::double precision as seconds;

-- name: connections
-- How many there may be, and how many more this role could open: the server, the database and the role have limits.
select
    s.most, s.reserved, s.used,
    least(
        s.most - s.reserved - s.used,
        case when d.datconnlimit >= 0 then d.datconnlimit - d.used end,
        case when r.rolconnlimit >= 0 then r.rolconnlimit - r.used end
    )::integer as free
from (
    select
        current_setting('max_connections')::integer as most,
        current_setting('superuser_reserved_connections')::integer
            + coalesce(current_setting('reserved_connections', true)::integer, 0) as reserved,
        (select sum(numbackends) from pg_stat_database)::integer as used
) s
cross join (
    select datconnlimit, (select count(*) from pg_stat_activity where datid = pg_database.oid) as used
    from pg_database where datname = current_database()
) d
cross join (
    select rolconnlimit, (select count(*) from pg_stat_activity where usesysid = pg_roles.oid) as used
    from pg_roles where rolname = current_user
) r;

-- name: is_migrated
-- Also for a role that may not look into the schema.
select exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = :schema::text and c.relname = 'migration'
) as is_migrated;

-- name: may_migrate
-- Whether this role may make the schema; change what is in it; and who may.
select
    has_database_privilege(current_database(), 'create') as may_create,
    n.oid is null
        or has_schema_privilege(n.oid, 'create')
            and not exists (
                select from pg_class c where c.relnamespace = n.oid and not pg_has_role(c.relowner, 'usage')
            ) as may_alter,
    pg_get_userbyid(n.nspowner)::text as owner
from (select :schema::text as name) wanted
left join pg_namespace n on n.nspname = wanted.name;

-- name: lacking_rights
-- What this role may not do, and any program of ours does.
with ours as (select oid from pg_namespace where nspname = :schema::text)
select 'usage' as privilege, 'the schema' as object from ours where not has_schema_privilege(oid, 'usage')
union all
select p.name, c.relname::text
from ours
join pg_class c on c.relnamespace = ours.oid and c.relkind in ('r', 'v')
cross join unnest(array['select', 'insert', 'update', 'delete']) p (name)
where not has_table_privilege(c.oid, p.name)
    and (p.name = 'select' or (c.relkind = 'r' and c.relname <> 'migration'))
union all
select 'usage', c.relname::text
from ours join pg_class c on c.relnamespace = ours.oid
where case when c.relkind = 'S' then not has_sequence_privilege(c.oid, 'usage') else false end
union all
select 'execute', f.proname::text
from ours join pg_proc f on f.pronamespace = ours.oid
where not has_function_privilege(f.oid, 'execute')
order by 2, 1;

-- name: indexes
-- Of `inside`, as if they stood in the schema; without their storage options, which are the owner's to choose. A build
-- that this role may not look at could be of any table.
select
    c.relname::text as name, t.relname::text as "table", i.indisvalid and i.indisready as is_valid,
    exists (
        select from pg_stat_progress_create_index p
        where p.datname = current_database() and coalesce(p.relid, t.oid) = t.oid
    ) as is_building,
    i.indisreplident as is_identity,
    regexp_replace(
        replace(pg_get_indexdef(i.indexrelid), quote_ident(n.nspname) || '.', :quoted_schema::text || '.'),
        ' WITH [(][^)]*[)]', ''
    ) as definition,
    pg_get_constraintdef(k.oid) as "constraint"
from pg_namespace n
join pg_class t on t.relnamespace = n.oid
join pg_index i on i.indrelid = t.oid
join pg_class c on c.oid = i.indexrelid
left join pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
where n.nspname = :inside::text
order by 2, 1;

-- name: tables
-- What vacuum has left of each: rows that are dead, and the number of them that calls it.
select
    c.relname::text as name,
    pg_relation_size(c.oid) as bytes,
    current_setting('autovacuum')::boolean and current_setting('track_counts')::boolean as is_on,
    coalesce(o.enabled, true) as is_vacuumed,
    coalesce(s.n_live_tup, 0) as live, coalesce(s.n_dead_tup, 0) as dead,
    coalesce(o.threshold, current_setting('autovacuum_vacuum_threshold')::double precision)
        + coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::double precision)
            * greatest(c.reltuples, 0) as due_at,
    greatest(s.last_vacuum, s.last_autovacuum) as vacuumed_at
from pg_namespace n
join pg_class c on c.relnamespace = n.oid and c.relkind = 'r'
left join pg_stat_all_tables s on s.relid = c.oid
left join lateral (
    select
        bool_and(option_value::boolean) filter (where option_name = 'autovacuum_enabled') as enabled,
        max(option_value::double precision) filter (where option_name = 'autovacuum_vacuum_threshold') as threshold,
        max(option_value::double precision) filter (where option_name = 'autovacuum_vacuum_scale_factor') as scale
    from (
        select option_name, option_value from pg_options_to_table(c.reloptions)
        where option_name in ('autovacuum_enabled', 'autovacuum_vacuum_threshold', 'autovacuum_vacuum_scale_factor')
        offset 0
    ) given
) o on true
where n.nspname = :schema::text
order by 1;

-- name: holders
-- Who keeps vacuum from removing what is dead. Sessions and prepared transactions, for longer than so many seconds; and
-- standbys for more than so many transactions, as nothing says since when. A VACUUM holds up no other.
select
    'session ' || pid || ' of ' || coalesce(usename, 'the server') || ' (' || coalesce(nullif(application_name, ''), 'unnamed') || ', '
        || coalesce(state, backend_type) || ')' as who,
    xact_start as since, format('if it may end: select pg_terminate_backend(%s)', pid) as mend
from pg_stat_activity a
where pid <> pg_backend_pid() and (backend_xmin is not null or backend_xid is not null)
    and datname = current_database() and backend_type <> 'autovacuum worker'
    and not exists (select from pg_stat_progress_vacuum v where v.pid = a.pid)
    and xact_start < now() - :seconds::double precision * interval '1 second'
union all
select
    'prepared transaction ' || quote_literal(gid) || ' of ' || owner, prepared,
    format('if nobody will commit it any more: rollback prepared %L', gid)
from pg_prepared_xacts
where database = current_database() and prepared < now() - :seconds::double precision * interval '1 second'
union all
select
    format('%s for %s transactions', s.who, age(s.xmin)), null,
    case when s.unread is null then 'end the old query on the standby, or set hot_standby_feedback = off there'
        else format('if its standby is gone for good: select pg_drop_replication_slot(%L)', s.unread) end
from (
    select 'standby ' || quote_ident(application_name) as who, backend_xmin as xmin, null::name as unread
    from pg_stat_activity where backend_type = 'walsender' and datname is null
    union all
    select 'replication slot ' || quote_ident(slot_name), xmin, null from pg_replication_slots where active
    union all
    select 'replication slot ' || quote_ident(slot_name) || ', which nobody reads,', xmin, slot_name
    from pg_replication_slots where not active
) s
where age(s.xmin) > :transactions::bigint
order by since;

-- name: idlers
-- Sessions that have left a transaction open, and do nothing.
select
    'session ' || pid || ' of ' || coalesce(usename, 'the server') || ' (' || coalesce(nullif(application_name, ''), 'unnamed') || ')' as who,
    state_change as since, format('if it may end: select pg_terminate_backend(%s)', pid) as mend
from pg_stat_activity
where state like 'idle in transaction%' and datname = current_database()
    and state_change < now() - :seconds::double precision * interval '1 second'
order by state_change;

-- name: hidden_sessions
-- Walsenders too: they are of no database.
select count(*) as sessions from pg_stat_activity
where query = '<insufficient privilege>'
    and (datname = current_database() or pid in (select pid from pg_stat_get_wal_senders()));

-- name: roll_call
select
    w.id, w.name, w.state, w.beat, w.patience, w.ended_at,
    (select count(*) from pgwerk.active a where a.worker_id = w.id) as running
from pgwerk.worker w
where w.state in ('alive', 'dead')
order by w.id;

-- name: overdue
-- What no worker's maintenance has moved to the queues; the first so many.
select queue, count(*) as jobs
from (select queue from pgwerk.scheduled where due <= now() order by due limit :most::bigint) s
group by queue;
