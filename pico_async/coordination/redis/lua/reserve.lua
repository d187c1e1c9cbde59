-- Reserve slots of one rate group on the server's clock, in one round trip.
--
-- This is GCRA, used as a schedule: `tat`, the "theoretical arrival time", is the time of the next free slot. A member
-- that reserves n slots moves it on by n spacings. So two slots are never closer together than one spacing, whichever
-- members hold them.
--
-- Times are whole microseconds.
--
-- KEYS  1 the rate group's schedule (hash)   2 the members by the time of their last request (zset)
--       3 what they reported about themselves (hash)
-- ARGV  1 the member  2 what it reports about itself  3 slots wanted  4 slots that it holds  5 its spacing
--       6 the lookahead  7 for single sends ("1") or bulk sends ("0")  8 invited by the last reply ("1") or not ("0")
--       9 how far from now the schedule reached, as far as the member knows
--       10 how long others may still send by themselves, if Redis was away and the member does not know it
--       11 the end of the slots that it holds, on the server's clock  12 how long this reply is likely to take
-- Returns the number of slots, the time of the first from now, the spacing, when to ask again from now (0: at any
--         time), the end of a pause from now, the end of the schedule from now, the schedule's name, now, the end of
--         the schedule, 1 if impossible stored values were discarded, and the spacing without any slowdown.
local member, about = ARGV[1], ARGV[2]
local wanted, held = tonumber(ARGV[3]), tonumber(ARGV[4])
local spacing, lookahead = tonumber(ARGV[5]), tonumber(ARGV[6])
local interactive, invited = ARGV[7] == '1', ARGV[8] == '1'
local known_ahead, others_alone = tonumber(ARGV[9]), tonumber(ARGV[10])
local reply_delay = tonumber(ARGV[12])

-- A member's knowledge is older than now by the time that its messages took.
local TOLERANCE = 100000
-- A member that has not asked for this long, plus the time in which each member gets one slot, has nothing to send.
local SILENT = 2000000
-- How long members are kept, and the schedule after its end. The latter is long, because a new schedule makes all wait.
local KEPT_MS = 60000
local SCHEDULE_KEPT_MS = 86400000
-- How long a rate holds after the last request with it, beyond one spacing; and the spacing of the lowest rate.
local RATE_KEPT = 60000000
local LONGEST_SPACING = 3600000000

local state = redis.call('HMGET', KEYS[1], 'name', 'tat', 'last', 'bulk', 'single', 'resume', 'recover', 'slowed_to',
  'announced', 'granted', 'rates')
local name, discarded = state[1], 0
local tat, last = checked(state[2], 0, EXACT), checked(state[3], 0, EXACT)
-- When the next member without slots is to ask again, for bulk sends and for single sends.
local bulk, single = checked(state[4], 0, EXACT) or now, checked(state[5], 0, EXACT) or now
local resume, recover = checked(state[6] or 0, 0, EXACT), checked(state[7] or 0, 0, EXACT)
local slowed_to = checked(state[8] or 1, SLOWEST, 1)
-- The furthest end that any member has seen. Slots that were given back lie after `tat`.
local announced = checked(state[9], 0, EXACT) or tat
local granted = checked(state[10], 0, EXACT) or 0

local step = last and math.max(0, last - now) or 0
if step > 0 then
  -- The clock stepped back. All times move with it; otherwise all members would wait as long as the step was.
  bulk, single = bulk - step, single - step
  resume, recover = resume and math.max(0, resume - step), recover and math.max(0, recover - step)
end

if not (resume and resume <= now + LONGEST_PAUSE) then
  resume, discarded = 0, 1
end
if not (slowed_to and recover and recover <= now + LONGEST_PAUSE + SLOWED) then
  recover, slowed_to, discarded = 0, 1, 1
end

-- Members may have different rates; the lowest holds for all. `rates` lists spacings, each with its last request.
local rates = ARGV[5] .. '@' .. text(now)
for other, at in (state[11] or ''):gmatch('(%d+)@(%d+)') do
  at = math.min(tonumber(at), now)  -- later than now if the clock stepped back
  if other ~= ARGV[5] and checked(other, 1, LONGEST_SPACING) and now - at <= RATE_KEPT + tonumber(other) then
    spacing = math.max(spacing, tonumber(other))
    rates = rates .. ' ' .. other .. '@' .. text(at)
  end
end
local unslowed = spacing
if now < recover then
  spacing = spacing / slowed_to
end

-- How far ahead the slots of any member can lie: the horizon of single sends, what an invited member may find beyond
-- it, and one quota.
local reach = 4 * lookahead + spacing
-- A schedule is invalid if it ends later than this, or ended before it was last written.
local latest = now + LONGEST_PAUSE + math.max(known_ahead, reach / SLOWEST, others_alone)
if name and not (name:find('^%w+$') and #name <= 20 and tat and last and tat - step <= latest
    and announced - step <= latest and tat >= last - TOLERANCE) then
  name, discarded = false, 1
end

if not name then
  -- The first request of a day, or Redis lost the schedule: others may hold slots of it, or send by themselves.
  name = text(now)
  tat = now + math.max(known_ahead, reach, others_alone)
  announced = tat
else
  tat, announced = tat - step, announced - step
  if known_ahead > 0 and announced < now + known_ahead - TOLERANCE then
    -- This is an older schedule, perhaps of a replica, or the clock stepped forward.
    tat = now + math.max(known_ahead, reach)
  end
end
tat = math.max(tat, now)

local free = math.max(tat, resume)
-- A slot that has passed when the reply arrives is useless.
local start = math.max(free, now + reply_delay)

redis.call('ZADD', KEYS[2], text(now), member)
local silent = SILENT + redis.call('ZCARD', KEYS[2]) * spacing
local function drop(from, to)
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], from, to)) do
    redis.call('ZREM', KEYS[2], one)
    redis.call('HDEL', KEYS[3], one)
  end
end
drop('-inf', '(' .. text(now - silent))
-- Members with a time in the future asked before the clock stepped back, and would never be silent.
drop('(' .. text(now), '+inf')
local members = redis.call('ZCARD', KEYS[2])

-- No member asks again later than it takes all members to ask in turn, some of them more than once.
local queued = free + 4 * (members + 1) * (lookahead + spacing)
bulk, single = bulk <= queued and bulk or now, single <= queued and single or now

-- No member holds more than its part of the lookahead. The last slot that it holds does not count: otherwise a part of
-- two slots would be fetched one by one.
local quota = math.max(1, math.min(wanted, math.ceil(lookahead / spacing / members) - math.max(0, held - 1)))
-- Single sends may reserve further ahead than bulk sends. So there is room for them when bulk sends fill their part.
local horizon = interactive and 2 * lookahead or lookahead
local ask = interactive and single or bulk
local slots, first, again = 0, 0, 0
if free - now < horizon and (invited or ask <= now) or invited and free - now < horizon + lookahead then
  slots = quota
  first = start - now
  tat = start + slots * spacing
else
  -- The schedule is full. Each member is invited to ask again at a time of its own, in the order of the requests, and
  -- then gets its slots. If all asked at once, as many calls as there are members would fail, again and again.
  -- The times are a little closer together than slots, so that members that do not ask leave no gap. If more members
  -- came than there is room for, they are a little further apart: otherwise the members that find no slot would queue
  -- behind all others again, and some hosts more often than others.
  local at = math.max(ask, free - horizon, now)
  again = at - now
  ask = at + (free - now < horizon and 0.97 or 1.03) * quota * spacing
  if interactive then single = ask else bulk = ask end
end

-- Only for people: `pico fleet status` shows how many slots each member holds, and until when.
local holds_until = slots > 0 and math.ceil(tat) or tonumber(ARGV[11])
redis.call('HSET', KEYS[3], member, about .. ' ' .. text(held + slots) .. ' ' .. text(holds_until))
redis.call('HSET', KEYS[1], 'name', name, 'tat', text(math.ceil(tat)), 'last', text(now), 'bulk', text(bulk),
  'single', text(single), 'resume', text(resume), 'recover', text(recover), 'slowed_to', tostring(slowed_to),
  'spacing', text(unslowed), 'announced', text(math.ceil(math.max(announced, tat))), 'granted', text(granted + slots),
  'rates', rates)
local left = math.ceil((math.max(tat, announced, resume, recover, bulk, single) - now) / 1000)
redis.call('PEXPIRE', KEYS[1], text(SCHEDULE_KEPT_MS + left))
redis.call('PEXPIRE', KEYS[2], text(KEPT_MS + left))
redis.call('PEXPIRE', KEYS[3], text(KEPT_MS + left))

return {slots, math.ceil(first), math.ceil(spacing), math.ceil(again), math.max(0, math.ceil(resume - now)),
  math.max(0, math.ceil(tat - now)), name, now, text(math.ceil(tat)), discarded, unslowed}
