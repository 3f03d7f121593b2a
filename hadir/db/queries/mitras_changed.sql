-- Mitras, last changed first, of one state and one search ({state} as in mitras_page, {search}: a condition on $4 and $5).
-- $1 timestamptz, $2 uuid when the one before which changed, and its id; $3 how many
SELECT p.*, m.display_name, m.created_at, clock_timestamp() AS now
FROM mitra_presence p JOIN mitras m ON m.id = p.mitra_id
WHERE p.changed_at <= $1 AND (p.changed_at, p.mitra_id) < ($1, $2::uuid) AND {state} AND {search}
ORDER BY p.changed_at DESC, p.mitra_id DESC LIMIT $3
