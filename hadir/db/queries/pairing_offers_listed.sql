-- The first offers of each wave of a pairing, with whom they were made to.
-- $1 uuid pairing, $2 how many of a wave, $3 how many in all
SELECT o.mitra_id, m.display_name, o.wave, o.status, o.offered_at, o.delivered_at, o.seen_at, o.answered_at
FROM (
    SELECT *, row_number() OVER (PARTITION BY wave ORDER BY offered_at, mitra_id) AS place
    FROM pairing_offers WHERE pairing_id = $1) AS o
JOIN mitras m ON m.id = o.mitra_id
WHERE o.place <= $2 ORDER BY o.wave, o.offered_at, o.mitra_id LIMIT $3
