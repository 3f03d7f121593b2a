-- Revokes a login once. $1 auth session id
UPDATE auth_sessions SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = $1::uuid
RETURNING subject_id, role
