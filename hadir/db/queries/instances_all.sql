-- All instances with the age of their last beat in seconds.
SELECT id, name, version, started_at, state, sockets,
       extract(epoch FROM clock_timestamp() - beat_at)::float8 AS age_s
FROM instances ORDER BY started_at, id
