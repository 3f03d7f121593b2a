-- Empties the mirror and makes it cold: sentinel and leases first, so that nobody reads a half of it.
-- KEYS: 1 sentinel, 2 seed lease, then everything else   ARGV: none
return redis.call('UNLINK', unpack(KEYS))
