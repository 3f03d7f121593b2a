-- The open offers of mitras, and what became of those that they were told of. One snapshot.
-- $1 uuid[] mitras, $2 uuid[] pairings, $3 uuid[] mitras: the offers that they were told of
WITH chosen AS (
    SELECT pairing_id, mitra_id, status, offered_at FROM pairing_offers
    WHERE mitra_id = ANY ($1::uuid[]) AND status = 'open'
    UNION ALL
    SELECT o.pairing_id, o.mitra_id, o.status, o.offered_at FROM unnest($2::uuid[], $3::uuid[]) AS told(pairing_id, mitra_id)
    JOIN pairing_offers o ON o.pairing_id = told.pairing_id AND o.mitra_id = told.mitra_id
    WHERE o.status <> 'open'
)
SELECT c.pairing_id, c.mitra_id, c.status, c.offered_at, p.expires_at, p.note, p.reroute, p.session_id
FROM chosen c JOIN pairings p ON p.id = c.pairing_id
ORDER BY c.offered_at, c.pairing_id
