-- The newest logins of a mitra. $1 uuid mitra, $2 how many
SELECT id AS sid, nullif(expires_at, 'infinity') AS expires_at, revoked_at
FROM auth_sessions WHERE subject_id = $1::uuid AND role = 'mitra'
ORDER BY revoked_at IS NOT NULL, expires_at DESC NULLS FIRST, id LIMIT $2
