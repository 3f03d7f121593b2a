-- Which of these logins are revoked. $1 uuid[] ids
SELECT id, subject_id FROM auth_sessions
WHERE id = ANY ($1::uuid[]) AND revoked_at IS NOT NULL AND subject_id IS NOT NULL
