-- Gives a lease back; it is kept on record when that was. $1 name, $2 holder
UPDATE leases SET expires_at = least(expires_at, clock_timestamp()) WHERE name = $1 AND holder = $2
