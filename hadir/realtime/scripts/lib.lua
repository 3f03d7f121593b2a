-- Put before every script: what they share. One operation each; all times are this server's own clock.

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- The mirror was seeded since this server process started: the sentinel names this very run.
local function is_seeded(sentinel)
  return redis.call('GET', sentinel) == run_id()
end

-- Seeded, and every live instance (KEYS from `first` on are their leases) has sent its sockets' true ages since.
local function is_warm(sentinel, first)
  if not is_seeded(sentinel) then
    return false
  end
  for n = first, #KEYS do
    if redis.call('GET', KEYS[n]) ~= 'beaten' then
      return false
    end
  end
  return true
end

-- ISO-8601 UTC with milliseconds, as JavaScript prints it; the date by Howard Hinnant's civil_from_days.
local day_cached, date_cached
local function iso(ms)
  local seconds = math.floor(ms / 1000)
  local day = math.floor(seconds / 86400)
  if day ~= day_cached then
    local z = day + 719468
    local era = math.floor(z / 146097)
    local doe = z - era * 146097
    local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
    local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
    local mp = math.floor((5 * doy + 2) / 153)
    local d = doy - math.floor((153 * mp + 2) / 5) + 1
    local m = mp < 10 and mp + 3 or mp - 9
    local y = yoe + era * 400 + (m <= 2 and 1 or 0)
    day_cached, date_cached = day, string.format('%04d-%02d-%02dT', y, m, d)
  end
  local s = seconds - day * 86400
  return string.format('%s%02d:%02d:%02d.%03dZ', date_cached, math.floor(s / 3600), math.floor(s / 60) % 60, s % 60, ms % 1000)
end

-- The string of a beat at `at`, which expires when the beat becomes stale. Its text costs as much as the SET: those of
-- one millisecond that follow one another share it.
local at_kept, text_kept, until_kept
local function keep_beat(string_key, at, now, stale_ms)
  if at ~= at_kept then
    at_kept, text_kept, until_kept = at, iso(at), string.format('%.0f', at + stale_ms)
  end
  if at + stale_ms > now then
    redis.call('SET', string_key, text_kept, 'PXAT', until_kept)
  end
end
