-- The next event that nobody has dealt with, for this transaction.
-- $1 bigint[] those that have to wait, $2 uuid[] the sessions that these are about
SELECT id, body, session_id FROM webhook_events
WHERE processed_at IS NULL AND id <> ALL ($1::bigint[]) AND (session_id IS NULL OR session_id <> ALL ($2::uuid[]))
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
