-- Store a token or remove one, unless another token has replaced it meanwhile.
--
-- KEYS  1 the token (hash)
-- ARGV  1 "keep" or "discard"  2 the token  3 the generation that it may replace ("" for any)
--       4 how long an idle token is trusted, in microseconds
-- Returns the token that is stored now ("" for none) and its generation.
local state = redis.call('HMGET', KEYS[1], 'value', 'generation')
local value, generation = fits_header(state[1]) and state[1] or '', text(checked(state[2], 0, EXACT) or 0)
if ARGV[1] == 'discard' then
  if value == ARGV[2] then
    value = ''
    redis.call('HDEL', KEYS[1], 'value')
  end
elseif ARGV[3] == '' or ARGV[3] == generation or value == '' then
  value = ARGV[2]
  generation = text(tonumber(generation) + 1)
  redis.call('HSET', KEYS[1], 'value', value, 'generation', generation, 'used', text(now), 'fetched', text(now))
end
redis.call('PEXPIRE', KEYS[1], text(math.ceil(tonumber(ARGV[4]) / 1000)))
return {value, generation}
