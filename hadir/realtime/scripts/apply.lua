-- Makes the mirror agree with rows of mitra_presence, unless it already holds a newer version of them.
-- KEYS: 1 online, 2 deactivated, 3 heartbeats, 4 available, 5 queue, 6 versions, 7 connections, 8 seed lease,
--       then the capacity strings of all rows, then their heartbeat strings
-- ARGV: 1 stale period (ms), 2 token that the seed lease must hold ('' = none needed), then column by column for rows
--       whose ids differ: id, version, active (0/1), state (online|suspect|offline), open sessions, max sessions,
--       last session (Unix s), owner ('' = nobody's), age of the last sign of life that counts where the mirror holds none (ms),
--       age of the one that the row is ('' = it is none)
-- Returns {rows that differed although their version was the same, ids of which the mirror holds a newer version …},
--         or false when the lease was lost.
local FIXED = 8
local online, deactivated, heartbeats, available, queue, versions, connections =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local stale_ms, token, count = tonumber(ARGV[1]), ARGV[2], (#KEYS - FIXED) / 2
if token ~= '' and redis.call('GET', KEYS[8]) ~= token then
  return false
end
if count == 0 then
  return {0}
end
local now, answer = now_ms(), {0}
local ids = {unpack(ARGV, 3, 2 + count)}
local held = redis.call('HMGET', versions, unpack(ids))
local was_online = redis.call('SMISMEMBER', online, unpack(ids))
local was_deactivated = redis.call('SMISMEMBER', deactivated, unpack(ids))
local last = redis.call('ZMSCORE', heartbeats, unpack(ids))
local was_available = redis.call('ZMSCORE', available, unpack(ids))

-- What is done to many rows is one call, which costs Valkey a fraction of a call for each.
local calls = {}
local function call(...)
  calls[#calls + 1] = {...}
  return calls[#calls]
end
local function add(to, one, other)
  local size = #to
  to[size + 1], to[size + 2] = one, other
end
local set_version = call('HSET', versions)
local deactivate, activate = call('SADD', deactivated), call('SREM', deactivated)
local come, go = call('SADD', online), call('SREM', online)
local use, free = call('MSET'), call('DEL')
local own, disown = call('HSET', connections), call('HDEL', connections)
local set_beat, no_beat = call('ZADD', heartbeats), call('ZREM', heartbeats)
local fit, unfit = call('ZADD', available), call('ZREM', available)
local enqueue, dequeue = call('ZADD', queue), call('ZREM', queue)
local nothing = {}
for n, each in ipairs(calls) do
  nothing[n] = #each
end

for n = 1, count do
  local id, a = ids[n], 2 + n
  local version = ARGV[a + count]
  if held[n] and tonumber(held[n]) > tonumber(version) then
    answer[#answer + 1] = id
  else
    local active, state = ARGV[a + 2 * count] == '1', ARGV[a + 3 * count]
    local open, owner = tonumber(ARGV[a + 4 * count]), ARGV[a + 7 * count]
    local is_online, fits = state == 'online', state == 'online' and open < tonumber(ARGV[a + 5 * count])
    add(set_version, id, version)
    add(active and activate or deactivate, id)
    add(state == 'offline' and go or come, id)
    if open > 0 then add(use, KEYS[FIXED + n], open) else add(free, KEYS[FIXED + n]) end
    if owner == '' then add(disown, id) else add(own, id, owner) end
    if is_online then
      local known, beat = last[n] and tonumber(last[n]), ARGV[a + 9 * count]
      local at = known or now - tonumber(ARGV[a + 8 * count])
      if beat ~= '' then
        at = math.max(at, now - tonumber(beat))
      end
      if at ~= known then
        add(set_beat, at, id)
        keep_beat(KEYS[FIXED + count + n], at, now, stale_ms)
      end
      if fits then
        add(fit, at, id)
        add(enqueue, string.format('%.0f', open * 1e11 + tonumber(ARGV[a + 6 * count])), id)
      end
    else
      add(no_beat, id)
      add(free, KEYS[FIXED + count + n])
    end
    if not fits then
      add(unfit, id)
      add(dequeue, id)
    end
    if held[n] == version and (
      (was_deactivated[n] == 1) == active or (was_online[n] == 1) == (state == 'offline')
      or is_online and (was_available[n] ~= false) ~= fits or not is_online and last[n]
    ) then
      answer[1] = answer[1] + 1
    end
  end
end
for n, each in ipairs(calls) do
  if #each > nothing[n] then
    redis.call(unpack(each))
  end
end
return answer
