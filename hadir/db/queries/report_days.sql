-- Days of a time zone that have begun, each from its midnight to the next: in a zone that has summer time one of 23 and
-- one of 25 hours. $1 date the first, $2 date the last, $3 text zone
SELECT day::date AS day, starts, (day + interval '1 day') AT TIME ZONE $3::text AS ends
FROM generate_series($1::date::timestamp, $2::date::timestamp, interval '1 day') AS day
CROSS JOIN LATERAL (SELECT day AT TIME ZONE $3::text AS starts) AS local
WHERE starts <= clock_timestamp() ORDER BY day
