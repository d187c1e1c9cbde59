-- Give back the newest slots, where nobody has reserved behind them; else they are forfeited.
--
-- KEYS  1 the lane's schedule (hash)
-- ARGV  1 the schedule's name  2 its end when the slots were reserved  3 its end without them  4 how many they are
-- Gives: how many were taken back.
local state = redis.call('HMGET', KEYS[1], 'name', 'tat', 'granted')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
  return 0
end
local granted = math.max(0, (stored(state[3], 0, EXACT) or 0) - tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'tat', text(math.max(tonumber(ARGV[3]), now)), 'granted', text(granted))
return tonumber(ARGV[4])
