-- The right to seed. Taken by nobody else while it lives; each chunk's caller renews it.
-- KEYS: 1 lease, 2 sentinel   ARGV: 1 token, 2 stage (take|renew|finish|drop), 3 duration (ms)
-- finish writes the sentinel; it and drop give the lease back. Returns 1, or 0 when somebody else has it, or it is gone.
local holder = redis.call('GET', KEYS[1])
if ARGV[2] == 'take' then
  return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[3]) and 1 or 0
end
if holder ~= ARGV[1] then
  return 0
end
if ARGV[2] == 'renew' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
if ARGV[2] == 'finish' then
  redis.call('SET', KEYS[2], run_id())
end
return 1
