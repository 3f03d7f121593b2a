-- How long the first event has waited that nobody has dealt with, in seconds. No row where there is none.
SELECT extract(epoch FROM clock_timestamp() - received_at)::float8 FROM webhook_events
WHERE processed_at IS NULL ORDER BY id LIMIT 1
