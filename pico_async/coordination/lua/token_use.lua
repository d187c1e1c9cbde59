-- Give the shared token and note its use.
--
-- KEYS  1 the token (hash)
-- ARGV  1 how long an idle token is trusted, in microseconds  2 the member's own copy of it ("" for none)
-- Gives: the token ("" where there is none to trust), its generation.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local trusted = tonumber(ARGV[1])

local state = redis.call('HMGET', KEYS[1], 'value', 'generation', 'used')
local value, generation = state[1], state[2] or '0'
if not state[2] and ARGV[2] ~= '' then
  -- Redis forgot it. It is no worse for that, and else each member would fetch another.
  value, generation, state[3] = ARGV[2], '1', now
  redis.call('HSET', KEYS[1], 'value', value, 'generation', generation, 'fetched', string.format('%.0f', now))
end
if not value or now - (tonumber(state[3]) or 0) >= trusted then
  return {'', generation}
end
redis.call('HSET', KEYS[1], 'used', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(trusted / 1000)))
return {value, generation}
