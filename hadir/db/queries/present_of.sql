-- Which of these mitras are online, suspects included.
-- $1 uuid[] mitras
SELECT mitra_id
FROM mitra_presence
WHERE is_online
  AND mitra_id = ANY ($1::uuid[])
