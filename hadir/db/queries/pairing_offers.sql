-- The offers of a pairing, in the order in which they were made. $1 uuid, $2 how many
SELECT mitra_id, wave, status, offered_at, delivered_at, seen_at, answered_at FROM pairing_offers
WHERE pairing_id = $1 ORDER BY wave, offered_at, mitra_id LIMIT $2
