-- Sessions that changed, or got a message, in the order of their change, with everybody who had them.
-- $1 after when, $2 uuid after which at that time, $3 how many
SELECT s.id, s.customer_id, s.changed_at, s.mitra_id || ARRAY(
    SELECT p.mitra_id FROM pairings p WHERE p.session_id = s.id AND p.status = 'accepted' AND p.mitra_id IS NOT NULL) AS mitras
FROM chat_sessions s
WHERE s.changed_at >= $1 AND (s.changed_at, s.id) > ($1, $2::uuid)
ORDER BY s.changed_at, s.id LIMIT $3
