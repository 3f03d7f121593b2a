-- Logins revoked after a time. $1 when
SELECT id, subject_id, role FROM auth_sessions WHERE revoked_at > $1 AND subject_id IS NOT NULL
