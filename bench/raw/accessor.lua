-- The limit of an array's get and set: a userdata whose __index, __newindex is a C function that does next to nothing
-- (`type`). The loop is that of rows/array.lua. ns per access.
-- usage: accessor.lua get|set
local bench = dofile "bench/lib.lua"

local object = debug.setmetatable(io.tmpfile(), { __index = type, __newindex = type })
local run = {}

function run.get()
  bench.ns(function(n)
    for i = 1, n do local _ = object[(i & 1023) + 1] end
  end)
end

function run.set()
  bench.ns(function(n)
    for i = 1, n do object[(i & 1023) + 1] = i end
  end)
end

run[arg[1]]()
