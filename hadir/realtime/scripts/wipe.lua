-- Empties the mirror and makes it cold: sentinel and leases too, so that nobody reads a half of it, and all beat again.
-- KEYS: 1 seed lease, 2 sentinel, then everything else
-- ARGV: 1 token that the seed lease must hold, which then stays ('' = none needed, and it goes)
-- With a token nothing is done to a mirror that is seeded. Returns 1, or 0 when the lease was lost.
if ARGV[1] == '' then
  redis.call('UNLINK', unpack(KEYS))
elseif redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
elseif not is_seeded(KEYS[2]) then
  redis.call('UNLINK', unpack(KEYS, 2))
end
return 1
