-- Takes or renews a lease on this server's clock; no row when somebody else has it. One that ends later than a new one
-- would is from before the clock was set back. `ended`: when the lease before this call ended, or will; NULL where there
-- was none. $1 name, $2 holder, $3 seconds
WITH before AS (SELECT expires_at FROM leases WHERE name = $1)
INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3::float8))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE leases.holder = excluded.holder OR leases.expires_at < clock_timestamp()
   OR leases.expires_at > clock_timestamp() + make_interval(secs => $3::float8 + 1)
RETURNING (SELECT expires_at FROM before) AS ended
