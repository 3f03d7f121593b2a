-- Moves mitras without a capacity of their own to the configured one, a chunk of mitras at a time.
-- $1 uuid after which, $2 how many are looked at. Answers the rows that moved; `last` is where to go on (NULL: done).
WITH looked_at AS (
    SELECT m.id FROM mitras m WHERE m.id > $1::uuid ORDER BY m.id LIMIT $2
), locked AS (
    SELECT p.mitra_id FROM mitra_presence p JOIN mitras m ON m.id = p.mitra_id
    WHERE p.mitra_id IN (SELECT id FROM looked_at) AND m.max_sessions IS NULL
      AND p.max_sessions <> mitra_capacity(NULL)
    ORDER BY p.mitra_id FOR UPDATE OF p
), moved AS (
    UPDATE mitra_presence p SET max_sessions = mitra_capacity(NULL)
    FROM locked WHERE p.mitra_id = locked.mitra_id
    RETURNING p.*
)
SELECT moved.*, clock_timestamp() AS now, (SELECT max(id::text) FROM looked_at) AS last
FROM (SELECT) AS one LEFT JOIN moved ON true
