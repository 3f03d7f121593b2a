-- The waves of a pairing: when each was made, and how many offers it had. $1 uuid pairing, $2 how many waves
SELECT wave, min(offered_at) AS at, count(*) AS offers FROM pairing_offers WHERE pairing_id = $1
GROUP BY wave ORDER BY wave LIMIT $2
