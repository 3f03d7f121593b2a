-- The next events that nobody has dealt with, for this transaction. $1 how many
SELECT id, body FROM webhook_events WHERE processed_at IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
