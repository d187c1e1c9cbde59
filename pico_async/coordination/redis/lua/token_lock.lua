-- The right to fetch a token. One process holds it at a time, and it expires if that process dies.
--
-- KEYS  1 the lock
-- ARGV  1 "take", "renew" or "release"  2 the process  3 until it expires, in milliseconds
-- Returns 1 if the process holds the lock (for "release": if it held it), else 0.
local holder = redis.call('GET', KEYS[1])
if ARGV[1] == 'take' and not holder then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
if holder ~= ARGV[2] then
  -- No process sets a later expiry, or none. Another program did, and no process would ever fetch a token.
  local left = redis.call('PTTL', KEYS[1])
  if ARGV[1] == 'take' and (left < 0 or left > tonumber(ARGV[3])) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  end
  return 0
end
if ARGV[1] == 'release' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
