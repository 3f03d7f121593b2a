-- The pairings that a session came from and went through. $1 uuid session
SELECT p.*, m.display_name AS mitra_name FROM pairings p LEFT JOIN mitras m ON m.id = p.mitra_id
WHERE p.session_id = $1 ORDER BY p.created_at, p.id
