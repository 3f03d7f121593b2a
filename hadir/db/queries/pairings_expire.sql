-- Ends searches whose deadline is past. $1 float8 seconds past the shown deadline, $2 how many
UPDATE pairings SET status = 'expired'
WHERE id IN (
    SELECT id FROM pairings WHERE status = 'searching' AND expires_at <= clock_timestamp() - make_interval(secs => $1::float8)
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id, customer_id, extract(epoch FROM decided_at - expires_at)::float8 - $1 AS late_s
