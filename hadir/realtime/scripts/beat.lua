-- Records beats of mitras that the mirror holds as online and owned by the connection that beats.
-- KEYS: 1 deactivated, 2 heartbeats, 3 available, 4 connections, 5 sentinel, then each mitra's heartbeat string
-- ARGV: 1 stale period (ms), then for each: id, owner, age of the beat (ms)
-- Returns {seeded (0/1), now (ms), {deactivated ids}, {ids not held as online and owned so}}; unseeded: nothing is written.
local now, stale_ms = now_ms(), tonumber(ARGV[1])
local refused, strangers = {}, {}
if not is_seeded(KEYS[5]) then
  return {0, now, refused, strangers}
end
for n = 0, (#ARGV - 1) / 3 - 1 do
  local id, owner, age = ARGV[2 + n * 3], ARGV[3 + n * 3], tonumber(ARGV[4 + n * 3])
  if redis.call('SISMEMBER', KEYS[1], id) == 1 then
    refused[#refused + 1] = id
  elseif redis.call('HGET', KEYS[4], id) ~= owner or not redis.call('ZSCORE', KEYS[2], id) then
    strangers[#strangers + 1] = id
  else
    beat(KEYS[2], KEYS[3], KEYS[6 + n], id, now - age, now, stale_ms)
  end
end
return {1, now, refused, strangers}
