-- Revokes a login once, and puts that on record. $1 uuid auth session, $2 text who. No row where there is none.
WITH found AS (
    SELECT id, subject_id, role, revoked_at IS NULL AS good FROM auth_sessions WHERE id = $1::uuid FOR UPDATE
), revoked AS (
    UPDATE auth_sessions a SET revoked_at = clock_timestamp() FROM found WHERE a.id = found.id AND found.good
    RETURNING found.id, found.subject_id, found.role
), noted AS (
    INSERT INTO audit_log (actor, action, subject, detail)
    SELECT $2::text, 'revoke', id::text, jsonb_build_object('subject_id', subject_id, 'role', role) FROM revoked
)
SELECT subject_id, role, good FROM found
