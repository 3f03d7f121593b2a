-- All instances with the age of their last beat in seconds; one from before the clock was set back is as old as it is early.
SELECT id, name, version, started_at, state, sockets, beats_per_s, loop_lag_s,
       abs(extract(epoch FROM clock_timestamp() - beat_at))::float8 AS age_s
FROM instances ORDER BY started_at, id
