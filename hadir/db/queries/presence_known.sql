-- Which of these ids have a presence row. $1 uuid[] ids
SELECT mitra_id FROM mitra_presence WHERE mitra_id = ANY ($1::uuid[])
