-- One session. $1 uuid
SELECT s.*, s.last_seq AS messages, m.display_name AS mitra_name, p.is_online AS mitra_reachable
FROM chat_sessions s JOIN mitras m ON m.id = s.mitra_id JOIN mitra_presence p ON p.mitra_id = s.mitra_id
WHERE s.id = $1
