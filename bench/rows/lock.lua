-- Acquire and release a lock: ns per pair, in one process alone or in two that contend for it.
-- usage: lock.lua alone|contended
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local lock = mp.Lock()

local function take(n)
  for _ = 1, n do
    lock:acquire()
    lock:release()
  end
end

local run = {}

function run.alone()
  bench.ns(function(n) take(n) end)
end

function run.contended()
  bench.ns(function(n)
    local ready, done, go = mp.Semaphore(0), mp.Semaphore(0), mp.Event()
    local children = {}
    for c = 1, 2 do
      children[c] = mp.Process{ target = function()
        ready:release()
        go:wait()
        take(n // 2)
        done:release()
      end }
      children[c]:start()
    end
    for _ = 1, 2 do ready:acquire() end
    local start = bench.now()
    go:set()
    for _ = 1, 2 do done:acquire() end
    local seconds = bench.now() - start
    for _, p in ipairs(children) do p:join() end
    return seconds
  end)
end

run[arg[1]]()
