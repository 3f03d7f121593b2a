-- The searching pairings of customers, those made lately, and what became of those that they were told of.
-- $1 uuid[] customers, $2 uuid[] pairings that they were told of
SELECT p.*, m.display_name AS mitra_name, p.created_at > now() - interval '1 minute' AS lately
FROM pairings p LEFT JOIN mitras m ON m.id = p.mitra_id
WHERE p.id IN (
    SELECT id FROM pairings WHERE customer_id = ANY ($1::uuid[]) AND status = 'searching'
    UNION SELECT id FROM pairings WHERE customer_id = ANY ($1::uuid[]) AND created_at > now() - interval '1 minute'
    UNION SELECT unnest($2::uuid[]))
ORDER BY p.created_at, p.id
