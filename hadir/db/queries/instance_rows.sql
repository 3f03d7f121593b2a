-- Mitras whose socket an instance holds. $1 instance id, $2 how many at most
SELECT mitra_id FROM mitra_presence WHERE instance_id = $1 LIMIT $2
