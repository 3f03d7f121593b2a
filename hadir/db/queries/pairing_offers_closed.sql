-- How many offers of a pairing ended in each way. $1 uuid pairing
SELECT status, count(*) AS offers FROM pairing_offers WHERE pairing_id = $1 GROUP BY status
