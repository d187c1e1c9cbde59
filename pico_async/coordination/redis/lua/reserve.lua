-- Reserve slots of one lane on the server's clock, in one round trip.
--
-- GCRA as a schedule: `tat` is the moment at which the next slot is free (the "theoretical arrival time"). Whoever
-- reserves n slots moves it on by n spacings. So slots never lie closer together than one spacing, whoever holds them.
--
-- Times are whole microseconds.
--
-- KEYS  1 the lane's schedule (hash)   2 who asked, by when (zset)   3 what they said of themselves (hash)
-- ARGV  1 member  2 about the member  3 slots wanted  4 slots that it holds  5 its spacing  6 lookahead
--       7 interactive, or not ("1", "0")  8 it was told to come now ("1", "0")
--       9 how far from now the schedule reached when the member last heard
--       10 for how long others may send by themselves where Redis was away, unknown to this member
--       11 the end of the slots that it holds, on the server's clock  12 how long this answer will take, as it seems
-- Gives: slots, moment of the first from now, spacing, when to ask again from now (0: whenever), end of a pause from
--        now, end of the schedule from now, the schedule's name, now, end of the schedule, 1 where something that was
--        stored could not be and was discarded, the fleet's spacing where nothing slows it down
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
-- How long, beyond one spacing, a rate holds that nobody has asked with since; and the lowest rate that can.
local RATE_KEPT = 60000000
local LONGEST_SPACING = 3600000000

local state = redis.call('HMGET', KEYS[1], 'name', 'tat', 'last', 'bulk', 'single', 'resume', 'recover', 'share',
  'told', 'granted', 'rates')
local name, discarded = state[1], 0
local tat, last = stored(state[2], 0, EXACT), stored(state[3], 0, EXACT)
local bulk, single = stored(state[4], 0, EXACT) or now, stored(state[5], 0, EXACT) or now
local resume, recover = stored(state[6] or 0, 0, EXACT), stored(state[7] or 0, 0, EXACT)
local share = stored(state[8] or 1, SLOWEST, 1)
-- The furthest end that anybody was told: slots that were given back lie behind `tat`.
local told = stored(state[9], 0, EXACT) or tat
local granted = stored(state[10], 0, EXACT) or 0

local step = last and math.max(0, last - now) or 0
if step > 0 then
  -- The clock stepped back. All moments move with it, or else everybody waits for as long as the step was.
  bulk, single = bulk - step, single - step
  resume, recover = resume and math.max(0, resume - step), recover and math.max(0, recover - step)
end

if not (resume and resume <= now + LONGEST_PAUSE) then
  resume, discarded = 0, 1
end
if not (share and recover and recover <= now + LONGEST_PAUSE + SLOWED) then
  recover, share, discarded = 0, 1, 1
end

-- Members may have been given different rates: the lowest holds for all. By the spacing, when one last asked with it.
local rates = ARGV[5] .. '@' .. text(now)
for other, at in (state[11] or ''):gmatch('(%d+)@(%d+)') do
  at = math.min(tonumber(at), now)  -- later than now where the clock stepped back
  if other ~= ARGV[5] and stored(other, 1, LONGEST_SPACING) and now - at <= RATE_KEPT + tonumber(other) then
    spacing = math.max(spacing, tonumber(other))
    rates = rates .. ' ' .. other .. '@' .. text(at)
  end
end
local unslowed = spacing
if now < recover then
  spacing = spacing / share
end

-- The furthest that anybody's slots lie ahead: the horizon of single sends, what an invited member may find beyond
-- it, and a quota.
local furthest = 4 * lookahead + spacing
-- A schedule that ends later than this is none, nor is one that ended before it was last written.
local latest = now + LONGEST_PAUSE + math.max(promised, furthest / SLOWEST, alone)
if name and not (name:find('^%w+$') and #name <= 20 and tat and last and tat - step <= latest and told - step <= latest
    and tat >= last - TOLERANCE) then
  name, discarded = false, 1
end

if not name then
  -- The first send of a day, or else Redis lost the schedule: others may hold slots of it, or go on by themselves.
  name = text(now)
  tat = now + math.max(promised, furthest, alone)
  told = tat
else
  tat, told = tat - step, told - step
  if promised > 0 and told < now + promised - TOLERANCE then
    -- It is an older one, of a replica perhaps, or the clock stepped forward.
    tat = now + math.max(promised, furthest)
  end
end
tat = math.max(tat, now)

local free = math.max(tat, resume)
-- A slot that is past when the answer arrives is good for nothing.
local start = math.max(free, now + answer)

redis.call('ZADD', KEYS[2], text(now), member)
local silent = SILENT + redis.call('ZCARD', KEYS[2]) * spacing
local function drop(from, to)
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], from, to)) do
    redis.call('ZREM', KEYS[2], one)
    redis.call('HDEL', KEYS[3], one)
  end
end
drop('-inf', '(' .. text(now - silent))
-- Those of the future asked before the clock stepped back, and would never be silent.
drop('(' .. text(now), '+inf')
local members = redis.call('ZCARD', KEYS[2])

-- Nobody is told to come back later than it takes all members to come by turns, some of them more than once.
local queued = free + 4 * (members + 1) * (lookahead + spacing)
bulk, single = bulk <= queued and bulk or now, single <= queued and single or now

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
  'spacing', text(unslowed), 'told', text(math.ceil(math.max(told, tat))), 'granted', text(granted + slots),
  'rates', rates)
local left = math.ceil((math.max(tat, told, resume, recover, bulk, single) - now) / 1000)
redis.call('PEXPIRE', KEYS[1], text(SCHEDULE_KEPT_MS + left))
redis.call('PEXPIRE', KEYS[2], text(KEPT_MS + left))
redis.call('PEXPIRE', KEYS[3], text(KEPT_MS + left))

return {slots, math.ceil(first), math.ceil(spacing), math.ceil(again), math.max(0, math.ceil(resume - now)),
  math.max(0, math.ceil(tat - now)), name, now, text(math.ceil(tat)), discarded, unslowed}
