-- The live counts; with a snapshot key also the beacon's body, counted once for everybody and kept for its time.
-- KEYS: 1 sentinel, 2 online, 3 heartbeats, 4 available, 5 deactivated, 6 snapshot, then the leases of all live instances
-- ARGV: 1 stale period (ms), 2 snapshot's time to live (ms; 0 = neither read nor write it), 3 max_age_s as printed
-- Returns false when cold, else {body or '', ms it has left, online, not suspect, with capacity and fresh, with capacity,
--         deactivated, now (ms)}
if not is_warm(KEYS[1], 7) then
  return false
end
local ttl = tonumber(ARGV[2])
if ttl > 0 then
  local body = redis.call('GET', KEYS[6])
  if body then
    return {body, redis.call('PTTL', KEYS[6])}
  end
end
local now = now_ms()
local online, fresh = redis.call('SCARD', KEYS[2]), redis.call('ZCOUNT', KEYS[4], now - tonumber(ARGV[1]), '+inf')
local body = ''
if ttl > 0 then
  body = string.format(
    '{"available":%d,"online":%d,"as_of":"%s","max_age_s":%s,"state":"live"}', fresh, online, iso(now), ARGV[3])
  redis.call('SET', KEYS[6], body, 'PX', ttl)
end
return {
  body, ttl, online, redis.call('ZCARD', KEYS[3]), fresh, redis.call('ZCARD', KEYS[4]), redis.call('SCARD', KEYS[5]), now
}
