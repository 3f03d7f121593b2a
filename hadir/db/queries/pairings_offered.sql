-- The mitras who had an offer of these pairings, but for those that declined. $1 uuid[] pairings
SELECT DISTINCT mitra_id FROM pairing_offers WHERE pairing_id = ANY ($1::uuid[]) AND status <> 'declined'
