-- An instance's lease: begun before it sends the true ages of all its sockets, complete after.
-- KEYS: 1 sentinel, 2 the lease   ARGV: 1 stage (begin|beaten), 2 duration (ms)
-- Returns 1, or 0 when the mirror is not seeded or (beaten) the lease is gone: then all beats must be sent again.
if not is_seeded(KEYS[1]) or (ARGV[1] == 'beaten' and redis.call('EXISTS', KEYS[2]) == 0) then
  return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
