-- Note that Pico refused a request for its rate: all pause, then go slower for a while.
--
-- KEYS  1 the lane's schedule (hash)
-- ARGV  1 the pause  2 how long to go slower after it  3 what a refusal leaves of the pace  4 the least that is left
--       (microseconds, microseconds, and two fractions)
-- Gives: the end of the pause from now.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local pause, slowed, factor, least = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local state = redis.call('HMGET', KEYS[1], 'last', 'resume', 'recover', 'share')
local last, resume = tonumber(state[1]) or now, tonumber(state[2]) or 0
local recover, share = tonumber(state[3]) or 0, tonumber(state[4]) or 1
-- Where the clock stepped back, as in reserve.lua, which also writes `last`.
local behind = math.max(0, last - now)

-- Requests that were on the wire together are refused together: that is one refusal.
if now + behind >= resume then
  if now + behind >= recover then
    share = 1
  end
  share = math.max(least, share * factor)
end
resume = math.max(resume, now + behind + pause)
recover = resume + slowed

redis.call('HSET', KEYS[1], 'resume', string.format('%.0f', resume), 'recover', string.format('%.0f', recover),
  'share', tostring(share))
local kept = math.ceil((recover - now) / 1000) + 60000
if redis.call('PTTL', KEYS[1]) < kept then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', kept))
end
return math.ceil(resume - now - behind)
