-- Sets one key. $1 key, $2 jsonb value, $3 who
INSERT INTO app_config (key, value, updated_at, updated_by) VALUES ($1, $2, clock_timestamp(), $3)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at, updated_by = excluded.updated_by
