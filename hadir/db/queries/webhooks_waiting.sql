-- Whether there is an event that nobody has dealt with.
SELECT EXISTS (SELECT FROM webhook_events WHERE processed_at IS NULL)
