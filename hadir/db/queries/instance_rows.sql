-- Mitras whose socket an instance holds that has been silent. $1 instance id, $2 float8 seconds, $3 how many at most
SELECT p.mitra_id FROM mitra_presence p JOIN instances i ON i.id = p.instance_id
WHERE p.instance_id = $1 AND abs(extract(epoch FROM clock_timestamp() - i.beat_at)) > $2::float8
LIMIT $3
