-- An integer there and back over two queues, between two processes: ns per round trip.
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

bench.ns(function(n)
  local there, back = mp.Queue(), mp.Queue()
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
end, 100)
