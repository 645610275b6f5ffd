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
    return bench.together(2, function() take(n // 2) end)
  end)
end

run[arg[1]]()
