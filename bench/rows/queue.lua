-- Queue throughput: ns per item, N producers to N consumers, all of them children; the parent only waits.
-- usage: queue.lua int|1k|64k N
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local kind, sides = arg[1], math.tointeger(tonumber(arg[2]))
local item = ({ int = 123456, ["1k"] = ("x"):rep(1024), ["64k"] = ("x"):rep(65536) })[kind]
local bound = kind == "64k" and 16 or 1024

bench.ns(function(n)
  local q, ready, done, go = mp.Queue(bound), mp.Semaphore(0), mp.Semaphore(0), mp.Event()
  local each = n // sides

  local function produce()
    ready:release()
    go:wait()
    for _ = 1, each do q:put(item) end
  end

  local function consume()
    ready:release()
    go:wait()
    for _ = 1, each do q:get() end
    done:release()
  end

  local children = {}
  for _ = 1, sides do
    children[#children + 1] = mp.Process{ target = produce }
    children[#children + 1] = mp.Process{ target = consume }
  end
  for _, p in ipairs(children) do p:start() end
  for _ = 1, #children do ready:acquire() end

  local start = bench.now()
  go:set()
  for _ = 1, sides do done:acquire() end
  local seconds = bench.now() - start

  for _, p in ipairs(children) do p:join() end
  return seconds
end)
