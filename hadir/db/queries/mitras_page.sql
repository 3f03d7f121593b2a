-- Mitras by id, of one state (`STATES` in http/mitras.py stands for {state}).
-- $1 uuid the first, $2 uuid the last, $3 how many
SELECT p.*, m.display_name, m.created_at, clock_timestamp() AS now
FROM mitra_presence p JOIN mitras m ON m.id = p.mitra_id
WHERE p.mitra_id BETWEEN $1::uuid AND $2::uuid AND {state}
ORDER BY p.mitra_id LIMIT $3
