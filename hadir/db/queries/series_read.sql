-- The last slots, oldest first, each with its counts, or with nulls where nobody counted.
-- $1 float8 seconds of a slot, $2 how many, $3 float8 seconds after its time until which a slot may still be written
WITH newest AS (
    SELECT to_timestamp(floor((extract(epoch FROM now())::float8 - $3::float8) / $1::float8) * $1::float8) AS at
), slots AS (
    SELECT generate_series(at - ($2::int - 1) * make_interval(secs => $1::float8), at, make_interval(secs => $1::float8)) AS at
    FROM newest
)
SELECT extract(epoch FROM slots.at)::bigint AS slot, online, suspect, available, busy, deactivated, sockets,
       pending_payment, active, waiting, accept_p50_s, beats_per_s
FROM slots LEFT JOIN centre_series s ON s.at = slots.at AND s.at > now() - ($2::int + 2) * make_interval(secs => $1::float8)
ORDER BY slots.at
