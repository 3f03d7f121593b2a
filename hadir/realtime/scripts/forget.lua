-- Removes mitras that Postgres does not have.
-- KEYS: 1 online, 2 deactivated, 3 heartbeats, 4 available, 5 queue, 6 versions, 7 connections, 8 seed lease,
--       then for each id: its capacity string, its heartbeat string
-- ARGV: 1 token that the seed lease must hold, then the ids
-- Returns 1, or 0 when the lease was lost.
if redis.call('GET', KEYS[8]) ~= ARGV[1] then
  return 0
end
for n = 2, #ARGV do
  local id = ARGV[n]
  redis.call('SREM', KEYS[1], id)
  redis.call('SREM', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
  redis.call('ZREM', KEYS[4], id)
  redis.call('ZREM', KEYS[5], id)
  redis.call('HDEL', KEYS[6], id)
  redis.call('HDEL', KEYS[7], id)
  redis.call('DEL', KEYS[5 + n * 2], KEYS[6 + n * 2])
end
return 1
