-- Presence rows with their names. $1 uuid[] ids
SELECT p.*, m.display_name, m.created_at, clock_timestamp() AS now
FROM mitra_presence p JOIN mitras m ON m.id = p.mitra_id
WHERE p.mitra_id = ANY ($1::uuid[])
