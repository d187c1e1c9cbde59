-- This stands in front of each script. Another program, or a person, may have written to the keys: no number is used
-- before it is checked, for one that cannot be would lift the limit, or stop the fleet for ever.

-- Whole numbers up to this one are exact: microseconds until the year 2255.
local EXACT = 9007199254740992

-- Give a stored number, or nil where there is none from `least` to `most`.
local function stored(value, least, most)
  local number = tonumber(value)
  if number and number >= least and number <= most then
    return number
  end
  return nil
end

-- Write a whole number: Lua's own tostring() gives 1.7e+15.
local function text(number)
  return string.format('%.0f', number)
end

-- Whether a token can stand in a header.
local function sound(token)
  return token and token:find('^[\33-\126]+$') ~= nil
end

-- A pause after a refusal, the slower pace after it, and the slowest pace: as in rates.py.
local LONGEST_PAUSE = 60000000
local SLOWED = 30000000
local SLOWEST = 0.2

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

