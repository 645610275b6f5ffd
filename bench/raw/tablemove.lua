-- The limit of slices that are Lua tables: copy 131,072 floats from one table to a new one (new) or to one that is
-- there (old), in C. ns per copy.
-- usage: tablemove.lua new|old
local bench = dofile "bench/lib.lua"

local list = {}
for i = 1, 131072 do list[i] = i + 0.5 end
local target = arg[1] == "old" and table.move(list, 1, #list, 1, {}) or nil

bench.ns(function(n)
  for _ = 1, n do table.move(list, 1, #list, 1, target or {}) end
end, 1)
