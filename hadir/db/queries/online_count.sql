-- How many are online, suspects included.
SELECT count(*) FROM mitra_presence WHERE is_online
