-- This text precedes each script. Another program, or a person, may have written to the keys. Therefore each stored
-- number is checked before use: an impossible one would lift the limit, or stop the fleet for ever.

-- The largest whole number that is exact: microseconds until the year 2255.
local EXACT = 9007199254740992

-- Return a stored number, or nil if it is not between `least` and `most`.
local function checked(value, least, most)
  local number = tonumber(value)
  if number and number >= least and number <= most then
    return number
  end
  return nil
end

-- Return a whole number as text. Lua's own tostring() returns 1.7e+15.
local function text(number)
  return string.format('%.0f', number)
end

-- Return whether an HTTP header can hold the token.
local function fits_header(token)
  return token and token:find('^[\33-\126]+$') ~= nil
end

-- The longest pause after a refusal, how long the rate is lower after it, and the lowest fraction: as in refusals.py.
local LONGEST_PAUSE = 60000000
local SLOWED = 30000000
local SLOWEST = 0.2

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

