-- An integer there and back over two queues, between two processes: ns per round trip, the mean of
-- five pairs of processes and queues. Each pair is new, so that a pair that does not settle into
-- the fast regime shows.
-- usage: roundtrip.lua Queue|SimpleQueue
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local kind = arg[1] or "Queue"
local pairs_of_processes = 5

local function round(n)
  local there, back = mp[kind](), mp[kind]()
  local p = mp.Process{ target = function()
    for _ = 1, n + 1 do back:put(there:get()) end
  end }
  p:start()
  there:put(0)
  back:get() -- the child runs now

  local start = bench.now()
  for i = 1, n do
    there:put(i)
    back:get()
  end
  local seconds = bench.now() - start

  p:join()
  return seconds
end

bench.ns(function(n)
  local seconds = 0
  for _ = 1, pairs_of_processes do seconds = seconds + round(n // pairs_of_processes) end
  return seconds
end, 100)
