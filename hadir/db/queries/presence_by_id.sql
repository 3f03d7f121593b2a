-- Presence rows by id. $1 uuid[] ids
SELECT p.*, clock_timestamp() AS now FROM mitra_presence p WHERE p.mitra_id = ANY($1::uuid[])
