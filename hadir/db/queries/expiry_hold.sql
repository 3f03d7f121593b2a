-- Begins or goes on with the hold (R5), or ends it when nothing is held. $1 how many are due and held (0 ends it)
UPDATE expiry_hold SET
    since = CASE WHEN $1::int > 0 THEN coalesce(since, clock_timestamp()) END,
    released_at = CASE WHEN $1::int > 0 AND since IS NOT NULL THEN released_at END,
    released_by = CASE WHEN $1::int > 0 AND since IS NOT NULL THEN released_by END,
    due = $1::int
RETURNING extract(epoch FROM clock_timestamp() - since)::float8 AS held_s, released_at IS NOT NULL AS released
