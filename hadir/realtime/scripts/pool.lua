-- Who can take work, whom to offer first at the head.
-- KEYS: 1 sentinel, 2 available, 3 queue, then the leases of all live instances
-- ARGV: 1 stale period (ms), 2 how many (1 at least), 3 how many of the queue are looked at
-- Returns false when cold, else the ids whose last beat is fresh.
if not is_warm(KEYS[1], 4) then
  return false
end
local fresh_from, wanted, most = now_ms() - tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found, first, step = {}, 0, math.min(2 * wanted, 500)
while first < most do
  local ids = redis.call('ZRANGE', KEYS[3], first, math.min(first + step, most) - 1)
  if #ids == 0 then
    break
  end
  local beats = redis.call('ZMSCORE', KEYS[2], unpack(ids))
  for n, id in ipairs(ids) do
    if beats[n] and tonumber(beats[n]) >= fresh_from then
      found[#found + 1] = id
      if #found == wanted then
        return found
      end
    end
  end
  first, step = first + step, 500
end
return found
