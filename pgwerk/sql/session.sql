-- What frames the others: transactions and what they may take.

-- name: begin
begin isolation level read committed;

-- name: commit
commit;

-- name: pin
-- A transaction of ours is short and says so. For the engine's own work the planner is held to index scans: a plan made
-- while the tables were empty would be kept when they are full, and cost a hundred times. For one transaction, or for a
-- session that is ours alone.
select
    set_config('default_transaction_isolation', 'read committed', :is_local::boolean),
    set_config('statement_timeout', '20s', :is_local::boolean),
    set_config('lock_timeout', '10s', :is_local::boolean),
    set_config('idle_in_transaction_session_timeout', '20s', :is_local::boolean),
    set_config('idle_session_timeout', '0', :is_local::boolean),
    set_config('enable_seqscan', :whole_tables::text, :is_local::boolean),
    set_config('enable_bitmapscan', :whole_tables::text, :is_local::boolean),
    set_config('enable_mergejoin', :whole_tables::text, :is_local::boolean),
    set_config('jit', 'off', :is_local::boolean),
    set_config('plan_cache_mode', 'force_generic_plan', :is_local::boolean);

-- name: whoami
-- A pooler in between shows itself: the process that answers is not the one that the connection was told of.
select pg_backend_pid();

-- name: listen
listen pgwerk;

-- name: ping
select pg_notify(:channel, 'ping ' || :token::text);
