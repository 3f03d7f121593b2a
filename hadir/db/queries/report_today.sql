-- The date in a time zone; no row where there is none of this IANA name. $1 text
SELECT (clock_timestamp() AT TIME ZONE name)::date AS today FROM pg_timezone_names WHERE name = $1 LIMIT 1
