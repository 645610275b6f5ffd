-- Start a process that does nothing and join it: ns per start+join.
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local function nothing() end

bench.ns(function(n)
  for _ = 1, n do
    local p = mp.Process{ target = nothing }
    p:start()
    p:join()
  end
end, 20)
