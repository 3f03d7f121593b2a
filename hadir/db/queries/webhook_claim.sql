-- The next event that nobody has dealt with, for this transaction. $1 bigint[] those that have to wait
SELECT id, body FROM webhook_events WHERE processed_at IS NULL AND id <> ALL ($1::bigint[])
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
