-- Leaves one row a minute of what is older than $1 days, and nothing of what is older than $2; of instances nothing older
-- than $2 either.
WITH series AS (
    DELETE FROM centre_series
    WHERE at < now() - make_interval(days => $1::int)
      AND (extract(epoch FROM at)::bigint % 60 <> 0 OR at < now() - make_interval(days => $2::int))
)
DELETE FROM instance_log WHERE at < now() - make_interval(days => $2::int)
