-- An event was dealt with. $1 bigint id, $2 what came of it
UPDATE webhook_events SET processed_at = clock_timestamp(), outcome = $2 WHERE id = $1
