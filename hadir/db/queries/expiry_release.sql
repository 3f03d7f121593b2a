-- An operator lets a hold go, once, and that is put on record. $1 who. No row when nothing is held.
WITH held AS (
    SELECT due, released_at IS NULL AS waits FROM expiry_hold WHERE since IS NOT NULL FOR UPDATE
), released AS (
    UPDATE expiry_hold SET released_at = clock_timestamp(), released_by = $1::text FROM held WHERE held.waits
    RETURNING held.due
), noted AS (
    INSERT INTO audit_log (actor, action, subject, detail)
    SELECT $1::text, 'release_expiry', 'expiry', jsonb_build_object('due', due) FROM released
)
SELECT due, waits FROM held
