-- The mitras who had an offer of these pairings, or of searches for these sessions.
-- $1 uuid[] pairings, $2 uuid[] sessions
SELECT DISTINCT mitra_id FROM pairing_offers
WHERE pairing_id IN (
    SELECT unnest($1::uuid[]) UNION SELECT id FROM pairings WHERE session_id = ANY ($2::uuid[]) AND reroute)
