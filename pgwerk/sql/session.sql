-- What frames the others: transactions and what they may take.

-- name: begin
begin isolation level read committed;

-- name: commit
commit;

-- name: pin
-- A transaction of ours is short and says so. The planner is held to index scans: a plan made while the tables were
-- empty would be kept when they are full, and cost a hundred times. A commit that another one follows at once need
-- not flush by itself.
select
    set_config('statement_timeout', '20s', true),
    set_config('lock_timeout', '10s', true),
    set_config('idle_in_transaction_session_timeout', '20s', true),
    set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true),
    set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('jit', 'off', true),
    set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('synchronous_commit', coalesce(:synchronous_commit::text, current_setting('synchronous_commit')), true);

-- name: whoami
-- A pooler in between shows itself: the process that answers is not the one that the connection was told of.
select pg_backend_pid();

-- name: listen
listen pgwerk;

-- name: ping
select pg_notify(:channel, 'ping ' || :token::text);
