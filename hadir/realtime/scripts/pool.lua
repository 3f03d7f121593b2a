-- Who can take work, whom to offer first at the head.
-- KEYS: 1 sentinel, 2 available, 3 queue, then the leases of all live instances
-- ARGV: 1 stale period (ms), 2 how many, 3 how many of the queue are looked at
-- Returns false when cold, else the ids whose last beat is fresh.
if not is_warm(KEYS[1], 4) then
  return false
end
local fresh_from, wanted = now_ms() - tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {}
for first = 0, tonumber(ARGV[3]) - 1, 500 do
  local ids = redis.call('ZRANGE', KEYS[3], first, first + 499)
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
end
return found
