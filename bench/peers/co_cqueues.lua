-- The rows of rows/co.lua for cqueues.
-- usage: co_cqueues.lua spawn|alive TASKS|switch|memory TASKS|timers
local cqueues = require "cqueues"
local bench = dofile "bench/lib.lua"

local run = {}

function run.spawn()
  local function nothing() end
  bench.ns(function(n)
    local cq = cqueues.new()
    for _ = 1, n // 1000 do
      for _ = 1, 1000 do cq:wrap(nothing) end
      assert(cq:loop())
    end
  end)
end

function run.alive()
  local n = math.tointeger(tonumber(arg[2]))
  local function once() cqueues.sleep(0) end
  local start, cq = bench.now(), cqueues.new()
  for _ = 1, n do cq:wrap(once) end
  assert(cq:loop())
  bench.report((bench.now() - start) / n * 1e9, "ns")
end

function run.switch()
  bench.ns(function(n)
    local cq = cqueues.new()
    for _ = 1, 2 do
      cq:wrap(function()
        for _ = 1, n // 2 do cqueues.sleep(0) end
      end)
    end
    assert(cq:loop())
  end)
end

function run.memory()
  local n, cq = math.tointeger(tonumber(arg[2])), cqueues.new()
  local function task() cqueues.sleep(3600) end
  collectgarbage()
  local before = bench.resident()
  for _ = 1, n do cq:wrap(task) end
  cq:step(0)
  collectgarbage()
  bench.report((bench.resident() - before) / n, "bytes")
  os.exit(0, false) -- do not count killing them all
end

function run.timers()
  local sleep <const>, worst, cq = 1, 0, cqueues.new()
  for _ = 1, 50000 do
    cq:wrap(function()
      local start = bench.now()
      cqueues.sleep(sleep)
      worst = math.max(worst, bench.now() - start - sleep)
    end)
  end
  assert(cq:loop())
  bench.report(worst / sleep * 100, "%")
end

run[arg[1]]()
