-- Partitions of the log: this month and the next two, none older than $1 months. A line each: whether there was something
-- to do; NULL where it gave way to somebody who writes the log.
SELECT presence_log_ensure_month((clock_timestamp() AT TIME ZONE 'UTC' + n * interval '1 month')::date)
FROM generate_series(0, 2) AS n
UNION ALL
SELECT presence_log_drop_before(
    (date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') - make_interval(months => $1::int))::date) > 0
