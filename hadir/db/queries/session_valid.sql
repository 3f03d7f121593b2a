-- Whether a login is good. $1 auth session id, $2 subject, $3 role
SELECT EXISTS (
    SELECT FROM auth_sessions
    WHERE id = $1::uuid AND subject_id = $2::uuid AND role = $3
      AND revoked_at IS NULL AND coalesce(expires_at, 'infinity') > clock_timestamp())
