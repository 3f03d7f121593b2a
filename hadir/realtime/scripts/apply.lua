-- Makes the mirror agree with rows of mitra_presence, unless it already holds a newer version of them.
-- KEYS: 1 online, 2 deactivated, 3 heartbeats, 4 available, 5 queue, 6 versions, 7 connections, 8 seed lease,
--       then for each row: its capacity string, its heartbeat string
-- ARGV: 1 stale period (ms), 2 token that the seed lease must hold ('' = none needed), then for each row:
--       id, version, active (0/1), state (online|suspect|offline), open sessions, max sessions,
--       last session (Unix s), owner ('' = nobody's), age of the last sign of life (ms), beat (0/1)
-- Returns {rows that differed although their version was the same, ids of which the mirror holds a newer version …},
--         or false when the lease was lost.
local FIELDS = 10
local online, deactivated, heartbeats, available, queue, versions, connections =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local stale_ms, token = tonumber(ARGV[1]), ARGV[2]
if token ~= '' and redis.call('GET', KEYS[8]) ~= token then
  return false
end
local now, answer = now_ms(), {0}
for n = 0, (#ARGV - 2) / FIELDS - 1 do
  local a = 2 + n * FIELDS
  local id, version, state = ARGV[a + 1], ARGV[a + 2], ARGV[a + 4]
  local capacity_key, heartbeat_key = KEYS[9 + n * 2], KEYS[10 + n * 2]
  local held = redis.call('HGET', versions, id)
  if held and tonumber(held) > tonumber(version) then
    answer[#answer + 1] = id
  else
    local open, max, owner = tonumber(ARGV[a + 5]), tonumber(ARGV[a + 6]), ARGV[a + 8]
    redis.call('HSET', versions, id, version)
    local moved = redis.call(ARGV[a + 3] == '1' and 'SREM' or 'SADD', deactivated, id)
      + redis.call(state == 'offline' and 'SREM' or 'SADD', online, id)
    if open > 0 then redis.call('SET', capacity_key, open) else redis.call('DEL', capacity_key) end
    if owner == '' then redis.call('HDEL', connections, id) else redis.call('HSET', connections, id, owner) end
    if state == 'online' then
      local at, known = now - tonumber(ARGV[a + 9]), redis.call('ZSCORE', heartbeats, id)
      if ARGV[a + 10] == '1' or not known then
        beat(heartbeats, available, heartbeat_key, id, at, now, stale_ms)
      end
      if open < max then
        moved = moved + redis.call('ZADD', available, redis.call('ZSCORE', heartbeats, id), id)
        redis.call('ZADD', queue, string.format('%.0f', open * 1e11 + tonumber(ARGV[a + 7])), id)
      else
        moved = moved + redis.call('ZREM', available, id)
        redis.call('ZREM', queue, id)
      end
    else
      moved = moved + redis.call('ZREM', heartbeats, id)
      redis.call('ZREM', available, id)
      redis.call('ZREM', queue, id)
      redis.call('DEL', heartbeat_key)
    end
    if moved > 0 and held == version then
      answer[1] = answer[1] + 1
    end
  end
end
return answer
