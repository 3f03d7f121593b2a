-- Which of these offers exist. $1 uuid[] pairings, $2 uuid[] mitras
SELECT o.pairing_id, o.mitra_id FROM unnest($1::uuid[], $2::uuid[]) AS i(pairing_id, mitra_id)
JOIN pairing_offers o ON o.pairing_id = i.pairing_id AND o.mitra_id = i.mitra_id
