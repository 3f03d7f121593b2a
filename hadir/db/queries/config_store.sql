-- Sets one key, and puts it on record. $1 key, $2 jsonb value, $3 who
WITH before AS (
    SELECT value FROM app_config WHERE key = $1 FOR UPDATE
), stored AS (
    INSERT INTO app_config (key, value, updated_at, updated_by)
    SELECT $1, $2, clock_timestamp(), $3 FROM (SELECT count(*) FROM before) AS locked
    ON CONFLICT (key) DO UPDATE
    SET value = excluded.value, updated_at = excluded.updated_at, updated_by = excluded.updated_by
    RETURNING key, value
)
INSERT INTO audit_log (actor, action, subject, detail)
SELECT $3, 'config', stored.key, jsonb_build_object('from', (SELECT value FROM before), 'to', stored.value) FROM stored
