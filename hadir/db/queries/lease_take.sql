-- Takes or renews a lease on this server's clock; no row when somebody else has it. One that ends later than a new one
-- would is from before the clock was set back. $1 name, $2 holder, $3 seconds
INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3::float8))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE leases.holder = excluded.holder OR leases.expires_at < clock_timestamp()
   OR leases.expires_at > clock_timestamp() + make_interval(secs => $3::float8 + 1)
RETURNING true
