-- Removes an instance that has been silent. $1 id, $2 seconds
DELETE FROM instances WHERE id = $1 AND abs(extract(epoch FROM clock_timestamp() - beat_at)) > $2::float8
