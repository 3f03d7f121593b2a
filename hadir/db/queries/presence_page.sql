-- The next page of all presence rows, by id. $1 uuid after which, $2 how many
SELECT p.*, clock_timestamp() AS now FROM mitra_presence p WHERE p.mitra_id > $1::uuid ORDER BY p.mitra_id LIMIT $2
