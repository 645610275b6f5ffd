-- Queue throughput: ns per item, N producers to N consumers, all of them children; the parent only waits.
-- usage: queue.lua int|1k|64k N
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local kind, sides = arg[1], math.tointeger(tonumber(arg[2]))
local item = ({ int = 123456, ["1k"] = ("x"):rep(1024), ["64k"] = ("x"):rep(65536) })[kind]
local bound = kind == "64k" and 16 or 1024

bench.ns(function(n)
  local q, each = mp.Queue(bound), n // sides
  return bench.together(2 * sides, function(side)
    if side <= sides then
      for _ = 1, each do q:put(item) end
    else
      for _ = 1, each do q:get() end
    end
  end)
end)
