-- Sessions, newest first ({whose}: a condition). $1 timestamptz, $2 uuid before which, $3 how many
SELECT s.*, s.last_seq AS messages, m.display_name AS mitra_name, p.is_online AS mitra_reachable
FROM chat_sessions s JOIN mitras m ON m.id = s.mitra_id JOIN mitra_presence p ON p.mitra_id = s.mitra_id
WHERE s.created_at <= $1 AND (s.created_at, s.id) < ($1, $2::uuid) AND {whose}
ORDER BY s.created_at DESC, s.id DESC LIMIT $3
