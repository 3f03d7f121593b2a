-- Last beats by age, oldest first.
-- KEYS: 1 sentinel, 2 heartbeats, then the leases that must say `beaten`
-- ARGV: 1 oldest age (ms; '' = any), 2 youngest age (ms), 3 how many at most
-- Returns false when cold, else {id, age (ms), …}
if not is_warm(KEYS[1], 3) then
  return false
end
local now = now_ms()
local from = ARGV[1] == '' and '-inf' or now - tonumber(ARGV[1])
local found = redis.call('ZRANGEBYSCORE', KEYS[2], from, now - tonumber(ARGV[2]), 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for n = 2, #found, 2 do
  found[n] = string.format('%.0f', now - tonumber(found[n]))
end
return found
