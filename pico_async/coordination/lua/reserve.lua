-- Reserve slots of one lane on the server's clock, in one round trip.
--
-- GCRA as a schedule: `tat` is the moment at which the next slot is free (the "theoretical arrival time"). Whoever
-- reserves n slots moves it on by n spacings. So slots never lie closer together than one spacing, whoever holds them.
--
-- Times are whole microseconds. They are written with %.0f: Lua's own tostring() gives 1.7e+15.
--
-- KEYS  1 the lane's schedule (hash)   2 who asked, by when (zset)   3 what they said of themselves (hash)
-- ARGV  1 member  2 about the member  3 slots wanted  4 slots that it holds  5 spacing  6 lookahead
--       7 interactive, or not ("1", "0")  8 it was told to come now ("1", "0")
--       9 how far from now the schedule reached when the member last heard
--       10 for how long others may send by themselves where Redis was away, unknown to this member
--       11 the end of the slots that it holds, on the server's clock  12 how long this answer will take, as it seems
-- Gives: slots, moment of the first from now, spacing, when to ask again from now (0: whenever), end of a pause from
--        now, end of the schedule from now, the schedule's name, now, end of the schedule
local member, about = ARGV[1], ARGV[2]
local wanted, held = tonumber(ARGV[3]), tonumber(ARGV[4])
local spacing, lookahead = tonumber(ARGV[5]), tonumber(ARGV[6])
local interactive, invited = ARGV[7] == '1', ARGV[8] == '1'
local promised, alone = tonumber(ARGV[9]), tonumber(ARGV[10])
local answer = tonumber(ARGV[12])

-- What a member knows is late by as long as its messages took.
local TOLERANCE = 100000
-- Members that were silent for so long, and for as long as it takes until each of them has had a slot, have nothing to
-- send.
local SILENT = 2000000
-- How long the members are kept, and the schedule after its end. That is long, for where there is none, all must wait.
local KEPT_MS = 60000
local SCHEDULE_KEPT_MS = 86400000

local function text(number)
  return string.format('%.0f', number)
end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

local state = redis.call('HMGET', KEYS[1], 'name', 'tat', 'last', 'bulk', 'single', 'resume', 'recover', 'share',
  'told')
local name = state[1]
local tat, last = tonumber(state[2]) or now, tonumber(state[3]) or now
local bulk, single = tonumber(state[4]) or now, tonumber(state[5]) or now
local resume, recover = tonumber(state[6]) or 0, tonumber(state[7]) or 0
local share = tonumber(state[8]) or 1
-- The furthest end that anybody was told: slots that were given back lie behind `tat`.
local told = tonumber(state[9]) or tat

-- The furthest that anybody's slots lie ahead: the horizon of single sends, what an invited member may find beyond
-- it, and a quota.
local furthest = 4 * lookahead + spacing

if now < last then
  -- The clock stepped back. All moments move with it, or else everybody waits for as long as the step was.
  local step = last - now
  tat, told, bulk, single = tat - step, told - step, bulk - step, single - step
  resume, recover = resume - step, recover - step
end
if not name then
  -- The first send of a day, or else Redis lost the schedule: others may hold slots of it, or go on by themselves.
  name = text(now)
  tat = now + math.max(promised, furthest, alone)
elseif promised > 0 and told < now + promised - TOLERANCE then
  -- It is an older one, of a replica perhaps, or the clock stepped forward.
  tat = now + math.max(promised, furthest)
end

if now < recover then
  spacing = spacing / share
end
local free = math.max(tat, now, resume)
-- A slot that is past when the answer arrives is good for nothing.
local start = math.max(free, now + answer)

redis.call('ZADD', KEYS[2], text(now), member)
local silent = SILENT + redis.call('ZCARD', KEYS[2]) * spacing
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. text(now - silent))
for _, one in ipairs(gone) do
  redis.call('ZREM', KEYS[2], one)
  redis.call('HDEL', KEYS[3], one)
end
local members = redis.call('ZCARD', KEYS[2])

-- Nobody holds more than its share of the lookahead (the last slot of the ones before does not count, or else shares
-- of two would be fetched one by one).
local quota = math.max(1, math.min(wanted, math.ceil(lookahead / spacing / members) - math.max(0, held - 1)))
-- Single sends may reach further ahead than blasts: where blasts fill their part, there is room for a single one.
local horizon = interactive and 2 * lookahead or lookahead
local ask = interactive and single or bulk
local slots, first, again = 0, 0, 0
if free - now < horizon and (invited or ask <= now) or invited and free - now < horizon + lookahead then
  slots = quota
  first = start - now
  tat = start + slots * spacing
else
  -- Full. Each is told a moment of its own to come back, in the order of asking, and then gets its slots: where all
  -- came back at once, as many calls would fail as there are members, again and again. A little closer together than
  -- slots are, so that those who do not come leave no gap; a little further apart where more came than there is room
  -- for, or else the ones that find none stand behind everybody again, and some hosts more often than others.
  local at = math.max(ask, free - horizon, now)
  again = at - now
  ask = at + (free - now < horizon and 0.97 or 1.03) * quota * spacing
  if interactive then single = ask else bulk = ask end
end

-- For people alone: `pico fleet status` shows who holds how many slots, and until when.
local holds_until = slots > 0 and math.ceil(tat) or tonumber(ARGV[11])
redis.call('HSET', KEYS[3], member, about .. ' ' .. text(held + slots) .. ' ' .. text(holds_until))
redis.call('HSET', KEYS[1], 'name', name, 'tat', text(math.ceil(tat)), 'last', text(now), 'bulk', text(bulk),
  'single', text(single), 'resume', text(resume), 'recover', text(recover), 'share', tostring(share),
  'spacing', ARGV[5], 'told', text(math.ceil(math.max(told, tat))))
redis.call('HINCRBY', KEYS[1], 'granted', slots)
local left = math.ceil((math.max(tat, told, resume, recover, bulk, single, now) - now) / 1000)
redis.call('PEXPIRE', KEYS[1], text(SCHEDULE_KEPT_MS + left))
redis.call('PEXPIRE', KEYS[2], text(KEPT_MS + left))
redis.call('PEXPIRE', KEYS[3], text(KEPT_MS + left))

return {slots, math.ceil(first), math.ceil(spacing), math.ceil(again), math.max(0, math.ceil(resume - now)),
  math.max(0, math.ceil(tat - now)), name, now, text(math.ceil(tat))}
