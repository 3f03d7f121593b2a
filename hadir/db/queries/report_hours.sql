-- Availability, as it was recorded, against demand: a row an hour that has begun, demand by when it was asked (a reroute is none).
-- $1 timestamptz from (a day's beginning), $2 timestamptz to
WITH hours AS (
    SELECT hour FROM generate_series(
        $1::timestamptz, least($2::timestamptz, clock_timestamp()) - interval '1 microsecond', interval '1 hour') AS hour
), had AS (
    SELECT date_bin('1 hour', at, $1) AS hour, avg(online) AS online, avg(available) AS available,
           min(available) AS least, avg(busy) AS busy
    FROM centre_series WHERE at >= $1 AND at < $2 GROUP BY 1
), wanted AS (
    SELECT date_bin('1 hour', created_at, $1) AS hour, count(*) AS asked,
           count(*) FILTER (WHERE status = 'accepted') AS accepted,
           count(*) FILTER (WHERE status = 'expired') AS expired,
           count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM decided_at - created_at)::float8)
               FILTER (WHERE status = 'accepted') AS accept_p50_s
    FROM pairings WHERE created_at >= $1 AND created_at < $2 AND NOT reroute GROUP BY 1
)
SELECT hours.hour, round(had.online, 2)::float8 AS online_avg, round(had.available, 2)::float8 AS available_avg,
       had.least AS available_min, round(had.busy, 2)::float8 AS busy_avg,
       coalesce(wanted.asked, 0) AS asked, coalesce(wanted.accepted, 0) AS accepted,
       coalesce(wanted.expired, 0) AS expired, coalesce(wanted.cancelled, 0) AS cancelled,
       round(wanted.accept_p50_s::numeric, 3)::float8 AS accept_p50_s
FROM hours LEFT JOIN had USING (hour) LEFT JOIN wanted USING (hour) ORDER BY hours.hour
