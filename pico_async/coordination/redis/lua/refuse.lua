-- Note that Pico refused a request for its rate: all pause, then go slower for a while.
--
-- KEYS  1 the lane's schedule (hash)
-- ARGV  1 the pause  2 how long to go slower after it  3 what a refusal leaves of the pace
--       (microseconds, microseconds, and a fraction)
-- Gives: the end of the pause from now.
local pause, slowed, factor = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[1], 'last', 'resume', 'recover', 'share')
-- Where the clock stepped back, as in reserve.lua, which also writes `last`.
local behind = math.max(0, (stored(state[1], 0, EXACT) or now) - now)
local resume = stored(state[2], 0, now + behind + LONGEST_PAUSE) or 0
local recover = stored(state[3], 0, now + behind + LONGEST_PAUSE + SLOWED) or 0
local share = stored(state[4], SLOWEST, 1) or 1

-- Requests that were on the wire together are refused together: that is one refusal.
if now + behind >= resume then
  if now + behind >= recover then
    share = 1
  end
  share = math.max(SLOWEST, share * factor)
end
resume = math.max(resume, now + behind + pause)
recover = resume + slowed

redis.call('HSET', KEYS[1], 'resume', text(resume), 'recover', text(recover), 'share', tostring(share))
local kept = math.ceil((recover - now - behind) / 1000) + 60000
if redis.call('PTTL', KEYS[1]) < kept then
  redis.call('PEXPIRE', KEYS[1], text(kept))
end
return math.ceil(resume - now - behind)
