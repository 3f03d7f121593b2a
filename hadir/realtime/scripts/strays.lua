-- Ids in one of the keys of which the mirror holds no version: no row was ever applied for them. A page of the key.
-- KEYS: 1 the key, 2 versions   ARGV: 1 SSCAN|HSCAN|ZSCAN, 2 cursor, 3 about how many are looked at
-- Returns {cursor of the next page, {ids}}
local cursor, found = unpack(redis.call(ARGV[1], KEYS[1], ARGV[2], 'COUNT', ARGV[3]))
local ids, strays = {}, {}
for n = 1, #found, ARGV[1] == 'SSCAN' and 1 or 2 do
  ids[#ids + 1] = found[n]
end
if #ids > 0 then
  for n, version in ipairs(redis.call('HMGET', KEYS[2], unpack(ids))) do
    if not version then
      strays[#strays + 1] = ids[n]
    end
  end
end
return {cursor, strays}
