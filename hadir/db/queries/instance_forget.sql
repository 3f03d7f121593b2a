-- Removes an instance that has been silent. $1 id, $2 seconds
DELETE FROM instances WHERE id = $1 AND beat_at < clock_timestamp() - make_interval(secs => $2::float8)
