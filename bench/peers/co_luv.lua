-- The rows of rows/co.lua for coroutines on luv, written the way luv programs do it: a coroutine that waits gives
-- itself to the callback of a timer.
-- usage: co_luv.lua spawn|switch|memory TASKS|timers
local uv = require "luv"
local bench = dofile "bench/lib.lua"

local function resume(thread) assert(coroutine.resume(thread)) end

local function sleep(seconds)
  local thread, timer = coroutine.running(), uv.new_timer()
  timer:start(math.floor(seconds * 1000), 0, function()
    timer:close()
    resume(thread)
  end)
  coroutine.yield()
end

local function spawn(f) resume(coroutine.create(f)) end

local run = {}

function run.spawn()
  bench.ns(function(n)
    for _ = 1, n // 1000 do
      for _ = 1, 1000 do
        spawn(function() sleep(0) end) -- its first step on the loop, as the others do it
      end
      uv.run()
    end
  end)
end

function run.switch()
  bench.ns(function(n)
    for _ = 1, 2 do
      spawn(function()
        for _ = 1, n // 2 do sleep(0) end
      end)
    end
    uv.run()
  end)
end

function run.memory()
  local n = math.tointeger(tonumber(arg[2]))
  collectgarbage()
  local before = bench.resident()
  for _ = 1, n do
    spawn(function() sleep(3600) end)
  end
  collectgarbage()
  bench.report((bench.resident() - before) / n, "bytes")
  os.exit(0, false) -- do not count closing them all
end

function run.timers()
  local length <const>, worst = 1, 0
  for _ = 1, 50000 do
    spawn(function()
      local start = bench.now()
      sleep(length)
      worst = math.max(worst, bench.now() - start - length)
    end)
  end
  uv.run()
  bench.report(worst / length * 100, "%")
end

run[arg[1]]()
