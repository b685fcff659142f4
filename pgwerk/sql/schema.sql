-- The schema's own version.

-- name: schema_found
select
    to_regnamespace(:quoted_schema::text) is not null as schema,
    to_regclass(:quoted_schema::text || '.migration') is not null as migrated;

-- name: schema_version
select max(version) as version, max(serves) as serves from pgwerk.migration;

-- name: create_schema
create schema pgwerk;

-- name: migration_lock
select pg_advisory_xact_lock(hashtextextended('migrate pgwerk', 0));

-- name: record_migration
insert into pgwerk.migration (version, name, serves) values (:version, :migration, :serves);
