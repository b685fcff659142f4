-- serves code from version 2
--
-- What no program of ours writes, but a hand can: seconds without end or beyond every calendar, lists with holes, a
-- callback without a function. One such row made a claim or an end impossible, for itself and for those beside it.
-- 3162240000 s is a century, the longest that enqueue takes. Rows that are there already are left alone.

alter domain pgwerk.job_seconds drop constraint job_seconds_check;
alter domain pgwerk.job_seconds add constraint job_seconds_check check (value between 0 and 3162240000) not valid;

alter domain pgwerk.job_time_limit drop constraint job_time_limit_check;
alter domain pgwerk.job_time_limit add constraint job_time_limit_check
    check (value > 0 and value <= 3162240000) not valid;

alter domain pgwerk.job_intervals drop constraint job_intervals_check;
alter domain pgwerk.job_intervals add constraint job_intervals_check check (
    cardinality(value) > 0 and array_ndims(value) = 1 and array_lower(value, 1) = 1
    and array_position(value, null) is null and 0 <= all (value) and 3162240000 >= all (value)
) not valid;

alter domain pgwerk.job_call drop constraint job_call_check;
alter domain pgwerk.job_call add constraint job_call_check check (
    value is null
    or coalesce(jsonb_typeof(value -> 'function') = 'string' and value ->> 'function' <> '', false)
        and case coalesce(jsonb_typeof(value -> 'timeout'), 'null')
            when 'null' then true
            when 'number' then (value ->> 'timeout')::numeric > 0 and (value ->> 'timeout')::numeric <= 3162240000
            else false
        end
) not valid;
