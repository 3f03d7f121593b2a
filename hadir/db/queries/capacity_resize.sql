-- Moves mitras without a capacity of their own to a new default, a chunk at a time.
-- $1 new default, $2 how many at most
WITH chosen AS (
    SELECT p.mitra_id FROM mitra_presence p JOIN mitras m ON m.id = p.mitra_id
    WHERE m.max_sessions IS NULL AND p.max_sessions <> $1
    ORDER BY p.mitra_id LIMIT $2 FOR UPDATE OF p
)
UPDATE mitra_presence p SET max_sessions = $1 FROM chosen WHERE p.mitra_id = chosen.mitra_id
RETURNING p.*, clock_timestamp() AS now
