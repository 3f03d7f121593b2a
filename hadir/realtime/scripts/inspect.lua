-- What the mirror holds of mitras, for comparing.
-- KEYS: 1 online, 2 deactivated, 3 heartbeats, 4 available, 5 queue, 6 versions, 7 connections,
--       then for each id: its capacity string, its heartbeat string
-- ARGV: the ids
-- Returns for each: version, online (0/1), deactivated (0/1), beat (ms or ''), available (0/1), queue score or '',
--         owner, capacity, heartbeat string there (0/1); at last now (ms)
local found = {}
local function score(key, id)
  local s = redis.call('ZSCORE', key, id)
  return s and string.format('%.0f', s) or ''
end
for n = 1, #ARGV do
  local id = ARGV[n]
  found[#found + 1] = redis.call('HGET', KEYS[6], id) or ''
  found[#found + 1] = redis.call('SISMEMBER', KEYS[1], id)
  found[#found + 1] = redis.call('SISMEMBER', KEYS[2], id)
  found[#found + 1] = score(KEYS[3], id)
  found[#found + 1] = redis.call('ZSCORE', KEYS[4], id) and 1 or 0
  found[#found + 1] = score(KEYS[5], id)
  found[#found + 1] = redis.call('HGET', KEYS[7], id) or ''
  found[#found + 1] = redis.call('GET', KEYS[6 + n * 2]) or '0'
  found[#found + 1] = redis.call('EXISTS', KEYS[7 + n * 2])
end
found[#found + 1] = now_ms()
return found
