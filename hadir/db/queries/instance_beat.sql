-- This instance lives. $1 id, $2 name, $3 version, $4 state, $5 open sockets, $6 float8 their beats a second and $7 float8
-- the longest delay of the event loop (s) since it said so last
INSERT INTO instances (id, name, version, state, sockets, beats_per_s, loop_lag_s) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp(), state = excluded.state, sockets = excluded.sockets,
    beats_per_s = excluded.beats_per_s, loop_lag_s = excluded.loop_lag_s
