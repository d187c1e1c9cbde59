-- Record that Pico refused a request for its rate: the fleet pauses, and its rate is lower for a while.
--
-- KEYS  1 the rate group's schedule (hash)
-- ARGV  1 the pause, in microseconds  2 how long the rate is lower after it, in microseconds
--       3 the fraction of the rate that a refusal leaves
-- Returns the end of the pause, from now.
local pause, slowed, factor = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[1], 'last', 'resume', 'recover', 'slowed_to')
-- How far the server's clock stepped back since reserve.lua wrote `last`.
local behind = math.max(0, (checked(state[1], 0, EXACT) or now) - now)
local resume = checked(state[2], 0, now + behind + LONGEST_PAUSE) or 0
local recover = checked(state[3], 0, now + behind + LONGEST_PAUSE + SLOWED) or 0
local slowed_to = checked(state[4], SLOWEST, 1) or 1

-- Requests that were under way together are refused together. They count as one refusal.
if now + behind >= resume then
  if now + behind >= recover then
    slowed_to = 1
  end
  slowed_to = math.max(SLOWEST, slowed_to * factor)
end
resume = math.max(resume, now + behind + pause)
recover = resume + slowed

redis.call('HSET', KEYS[1], 'resume', text(resume), 'recover', text(recover), 'slowed_to', tostring(slowed_to))
local kept = math.ceil((recover - now - behind) / 1000) + 60000
if redis.call('PTTL', KEYS[1]) < kept then
  redis.call('PEXPIRE', KEYS[1], text(kept))
end
return math.ceil(resume - now - behind)
