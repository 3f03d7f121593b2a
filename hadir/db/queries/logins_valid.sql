-- Which of these logins are good. $1 uuid[] auth session ids, $2 uuid[] subjects, $3 role
SELECT s.id FROM unnest($1::uuid[], $2::uuid[]) AS i(id, subject_id)
JOIN auth_sessions s ON s.id = i.id AND s.subject_id = i.subject_id
WHERE s.role = $3 AND s.revoked_at IS NULL AND coalesce(s.expires_at, 'infinity') > clock_timestamp()
