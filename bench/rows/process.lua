-- Start a process that does nothing and join it: ns per start+join. usage: process.lua fork|spawn|forkserver
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local function nothing() end

local function work(n)
  for _ = 1, n do
    local p = mp.Process{ target = nothing }
    p:start()
    p:join()
  end
end

mp.set_start_method(arg[1])
work(1) -- starts the fork server, and other things that exist once
bench.ns(work, 5)
