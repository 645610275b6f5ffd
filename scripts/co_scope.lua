-- Tasks that belong together: the scope ends when all of them have ended, for whatever reason.
-- Notice: the first error cancels the others and is raised by the scope; no task outlives it.
local mp = require "mpengine"
local co = mp.co

local function part(name, seconds)
  local _ <close> = setmetatable({}, {
    __close = function(_, err) print(name .. (err and ": cancelled" or ": done")) end,
  })
  co.sleep(seconds)
end

co.scope(function(s)
  s:spawn(part, "roof", 0.03)
  s:spawn(part, "walls", 0.02)
  s:spawn(function()
    s:spawn(part, "door", 0.01) -- a task may spawn into the scope it is in
  end)
end)
print "the house stands"

local ok, err = pcall(co.scope, function(s)
  s:spawn(part, "engine", 60)
  s:spawn(function()
    co.sleep(0.01)
    error("the wheels came off", 0)
  end)
  s:spawn(part, "brakes", 0.001)
end)
print("the car:", ok, err)

-- A limit around a scope cancels all of it.
print("too slow:", co.with_timeout(0.02, co.scope, function(s)
  s:spawn(part, "tunnel", 60)
end))
