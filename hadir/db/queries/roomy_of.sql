-- How many of these mitras may be available with an open session. $1 uuid[] mitras
SELECT count(*) FROM mitra_presence WHERE mitra_id = ANY ($1::uuid[]) AND max_sessions > 1
