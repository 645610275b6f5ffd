-- Tasks of one process: ns per spawn+join, a thousand or more alive at a time; ns per switch and per hand-off; bytes
-- per sleeping task; how late the last of 50,000 timers comes, in % of its sleep.
-- usage: co.lua spawn|alive TASKS|switch [SLEEPERS]|handoff|memory TASKS|timers
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"
local co = mp.co

-- Leaves n tasks asleep for longer than the benchmark; returns when all of them sleep.
local function sleepers(n)
  local started = 0
  local function task()
    started = started + 1
    co.sleep(3600)
  end
  local tasks = {}
  for i = 1, n do tasks[i] = co.spawn(task) end
  while started < n do co.sleep(0) end
  return tasks
end

local run = {}

function run.spawn()
  local function nothing() end
  bench.ns(function(n)
    local tasks = {}
    for _ = 1, n // 1000 do
      for i = 1, 1000 do tasks[i] = co.spawn(nothing) end
      co.joinall(tasks)
    end
  end)
end

-- All alive at once, then joined; each waits once. The first such round of a process: its memory is new.
function run.alive()
  local n = math.tointeger(tonumber(arg[2]))
  local function once() co.sleep(0) end
  local start, tasks = bench.now(), {}
  for i = 1, n do tasks[i] = co.spawn(once) end
  co.joinall(tasks)
  bench.report((bench.now() - start) / n * 1e9, "ns")
end

function run.switch()
  local asleep = sleepers(tonumber(arg[2] or 0))
  bench.ns(function(n)
    local function loop()
      for _ = 1, n // 2 do co.sleep(0) end
    end
    co.joinall{ co.spawn(loop), co.spawn(loop) }
  end)
  co.killall(asleep)
end

function run.handoff()
  bench.ns(function(n)
    local q = co.Queue(1)
    local producer = co.spawn(function()
      for i = 1, n do q:put(i) end
    end)
    local consumer = co.spawn(function()
      for _ = 1, n do q:get() end
    end)
    co.joinall{ producer, consumer }
  end)
end

function run.memory()
  local n = math.tointeger(tonumber(arg[2]))
  sleepers(1) -- things that exist once, whatever the number
  collectgarbage()
  local before = bench.resident()
  local tasks = sleepers(n)
  collectgarbage()
  bench.report((bench.resident() - before) / #tasks, "bytes")
  os.exit(0, false) -- do not count killing them all
end

function run.timers()
  local sleep <const>, worst = 1, 0
  local tasks = {}
  for i = 1, 50000 do
    tasks[i] = co.spawn(function()
      local start = bench.now()
      co.sleep(sleep)
      worst = math.max(worst, bench.now() - start - sleep)
    end)
  end
  co.joinall(tasks)
  bench.report(worst / sleep * 100, "%")
end

run[arg[1]]()
