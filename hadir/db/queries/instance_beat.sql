-- This instance lives. $1 id, $2 name, $3 version, $4 state, $5 open sockets
INSERT INTO instances (id, name, version, state, sockets) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp(), state = excluded.state, sockets = excluded.sockets
