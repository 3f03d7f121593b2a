-- Presence rows that changed, in the order of their change. $1 after when, $2 after which id at that time, $3 how many
SELECT p.*, clock_timestamp() AS now FROM mitra_presence p
WHERE p.changed_at >= $1 AND (p.changed_at, p.mitra_id) > ($1, $2::uuid)
ORDER BY p.changed_at, p.mitra_id LIMIT $3
