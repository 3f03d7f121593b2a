-- Records beats of mitras that the mirror holds as online and owned by the connection that beats.
-- KEYS: 1 deactivated, 2 heartbeats, 3 available, 4 connections, 5 sentinel, then each mitra's heartbeat string
-- ARGV: 1 stale period (ms), then all ids, then all owners, then the age of each beat (ms)
-- Returns {seeded (0/1), now (ms), {deactivated ids}, {ids not held as online and owned so}}; unseeded: nothing is written.
local FIXED = 5
local now, stale_ms, count = now_ms(), tonumber(ARGV[1]), #KEYS - FIXED
local refused, strangers = {}, {}
if not is_seeded(KEYS[5]) then
  return {0, now, refused, strangers}
end
if count == 0 then
  return {1, now, refused, strangers}
end
-- A call for all ids costs Valkey half of a call for each.
local ids = {unpack(ARGV, 2, count + 1)}
local deactivated = redis.call('SMISMEMBER', KEYS[1], unpack(ids))
local owners = redis.call('HMGET', KEYS[4], unpack(ids))
local known = redis.call('ZMSCORE', KEYS[2], unpack(ids))
local beats, size = {}, 0
local age, at, score -- of the one before: in a flush many are of the same millisecond
for n = 1, count do
  local last = known[n]
  if deactivated[n] == 1 then
    refused[#refused + 1] = ids[n]
  elseif last and owners[n] == ARGV[1 + count + n] then
    if ARGV[1 + 2 * count + n] ~= age then
      age = ARGV[1 + 2 * count + n]
      at = now - tonumber(age)
      score = string.format('%.0f', at)
    end
    beats[size + 1], beats[size + 2] = score, ids[n]
    size = size + 2
    if at > tonumber(last) then
      keep_beat(KEYS[FIXED + n], at, now, stale_ms)
    end
  else
    strangers[#strangers + 1] = ids[n]
  end
end
if size > 0 then
  redis.call('ZADD', KEYS[2], 'GT', unpack(beats))
  redis.call('ZADD', KEYS[3], 'XX', 'GT', unpack(beats))
end
return {1, now, refused, strangers}
