-- The schema's own version.

-- name: schema_found
select
    to_regnamespace(:quoted_schema::text) is not null as schema,
    to_regclass(:quoted_schema::text || '.migration') is not null as migrated;

-- name: schema_version
select max(version) as version, max(serves) as serves from pgwerk.migration;

-- name: create_schema
create schema pgwerk;

-- name: drop_schema
drop schema pgwerk cascade;

-- name: read_committed
-- Whoever has waited for the lock must not look with a snapshot from before.
set transaction isolation level read committed;

-- name: take_time
-- Whatever the role is allowed for a statement: a migration takes as long as it takes.
select set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true);

-- name: migration_lock
select pg_advisory_xact_lock(hashtextextended('migrate pgwerk', 0));

-- name: record_migration
insert into pgwerk.migration (version, name, serves) values (:version, :migration, :serves);
