-- A limit for anything that waits or computes.
-- Notice: the function that took too long is cancelled where it is, its <close> variables run, and
-- the call returns nil, "timeout". A loop that never waits is interrupted, too.
local mp = require "mpengine"
local co = mp.co

local function resource(name)
  return setmetatable({}, { __close = function() print("  " .. name .. " is given back") end })
end

print("in time:", co.with_timeout(5, function(a, b)
  co.sleep(0.01)
  return a + b
end, 1, 2))

print("too late:", co.with_timeout(0.05, function()
  local _ <close> = resource("the slow one's")
  mp.Queue():get() -- no process ever puts an item
end))

print("endless:", co.with_timeout(0.05, function()
  local _ <close> = resource("the busy one's")
  while true do end
end))

-- The outer limit applies to everything inside; an inner limit that passes first ends only its own
-- function.
print("nested:", co.with_timeout(5, function()
  local _, why = co.with_timeout(0.02, co.sleep, 60)
  return "inner " .. why .. ", outer goes on"
end))
