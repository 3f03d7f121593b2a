-- The sockets that rows say an instance holds, and for how long each has been silent by its row. $1 instance id
SELECT mitra_id, connection_id,
       coalesce(extract(epoch FROM clock_timestamp() - last_heartbeat_at), 0)::float8 AS silent_s
FROM mitra_presence WHERE instance_id = $1
