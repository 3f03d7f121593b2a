-- Pairings that changed, or whose offers did, in the order of their change.
-- $1 after when, $2 uuid after which at that time, $3 how many
SELECT id, customer_id, changed_at FROM pairings
WHERE changed_at >= $1 AND (changed_at, id) > ($1, $2::uuid)
ORDER BY changed_at, id LIMIT $3
