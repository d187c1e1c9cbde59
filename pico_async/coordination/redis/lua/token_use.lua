-- Return the shared token, and record its use.
--
-- KEYS  1 the token (hash)
-- ARGV  1 how long an idle token is trusted, in microseconds  2 the process's own copy of it ("" for none)
-- Returns the token ("" if none is trusted) and its generation.
local trusted = tonumber(ARGV[1])

local state = redis.call('HMGET', KEYS[1], 'value', 'generation', 'used')
local value, generation, used = state[1], text(checked(state[2], 0, EXACT) or 0), checked(state[3], 0, EXACT) or 0
if not state[2] and ARGV[2] ~= '' then
  -- Redis lost the token, which is still good. Without the copy, each process would fetch another one.
  value, generation, used = ARGV[2], '1', now
  redis.call('HSET', KEYS[1], 'value', value, 'generation', generation, 'fetched', text(now))
end
if value and not fits_header(value) then
  redis.call('HDEL', KEYS[1], 'value')
  value = false
end
if not value or now - used >= trusted then
  return {'', generation}
end
redis.call('HSET', KEYS[1], 'used', text(now))
redis.call('PEXPIRE', KEYS[1], text(math.ceil(trusted / 1000)))
return {value, generation}
