-- Take back the newest slots. If another process has reserved slots after them, they stay reserved and unused.
--
-- KEYS  1 the rate group's schedule (hash)
-- ARGV  1 the schedule's name  2 its end when the slots were reserved  3 its end without them  4 the number of slots
-- Returns the number of slots that were taken back.
local state = redis.call('HMGET', KEYS[1], 'name', 'tat', 'granted')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
  return 0
end
local granted = math.max(0, (checked(state[3], 0, EXACT) or 0) - tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'tat', text(math.max(tonumber(ARGV[3]), now)), 'granted', text(granted))
return tonumber(ARGV[4])
