-- Pairings, newest first ({status}: a condition). $1 timestamptz, $2 uuid before which, $3 how many
SELECT p.*, m.display_name AS mitra_name FROM pairings p LEFT JOIN mitras m ON m.id = p.mitra_id
WHERE p.created_at <= $1 AND (p.created_at, p.id) < ($1, $2::uuid) AND {status}
ORDER BY p.created_at DESC, p.id DESC LIMIT $3
