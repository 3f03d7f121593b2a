-- Mitra logins revoked after a time. $1 when
SELECT id, subject_id FROM auth_sessions WHERE revoked_at > $1 AND role = 'mitra' AND subject_id IS NOT NULL
