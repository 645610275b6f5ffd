-- Processor time of programs that a trace may look at: ns per operation, of all their processes. Run by
-- `mpengine --trace=FILE` it is the time of the traced program, without that of the reader.
-- usage: traced.lua pool US               a task of US microseconds, by Pool(2):map
--        traced.lua queue int|1k [US]     an item from a process to another, which works for US on it
--        traced.lua alone [US]            an item put and got by one process, which works for US on it
--        traced.lua lock [US]             a lock that two processes acquire and release, and hold for US
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local ROUNDS_OF_A_US <const> = 110

-- Takes about so many microseconds. The rounds are a number, so that programs in turn do the same.
local function work(us)
  local x = 0
  for i = 1, us * ROUNDS_OF_A_US do x = x + i % 7 end
  return x
end

-- Nanoseconds that a process has had a processor for.
local function spent(pid)
  local file <close> = assert(io.open(("/proc/%d/schedstat"):format(pid)))
  return file:read "n"
end

-- Reports the processor time of all processes in run(n); n operations are what fills the measured time.
local function measure(pids, run)
  local function all()
    local sum = 0
    for _, pid in ipairs(pids) do sum = sum + spent(pid) end
    return sum
  end
  local least, n = tonumber(os.getenv "BENCH_SECONDS") or 0.3, 1000
  while true do
    local from, before = bench.now(), all()
    run(n)
    local took, seconds = all() - before, bench.now() - from
    if seconds >= least then return bench.report(took / n, "ns") end
    n = n * math.max(2, math.min(10, math.ceil(least / seconds)))
  end
end

local function pids_of(children)
  local pids = { mp.current_process().pid }
  for _, p in ipairs(children) do pids[#pids + 1] = p.pid end
  return pids
end

-- Two processes that run one(n) and two(n), as often as they are told to.
local function pair(one, two)
  local jobs, done, children = { mp.SimpleQueue(), mp.SimpleQueue() }, mp.SimpleQueue(), {}
  for i, body in ipairs{ one, two } do
    children[i] = mp.Process{ target = function()
      for n in function() return jobs[i]:get() end do
        body(n)
        done:put(true)
      end
    end, daemon = true }
    children[i]:start()
  end
  measure(pids_of(children), function(n)
    for i = 1, 2 do jobs[i]:put(n) end
    for _ = 1, 2 do done:get() end
  end)
end

local run = {}

function run.pool(us)
  local pool <close> = mp.Pool(2)
  local function task() work(us) end
  pool:map(task, { 1, 2, 3, 4 }, { chunksize = 1 })
  measure(pids_of(mp.active_children()), function(n)
    local list = {}
    for i = 1, n do list[i] = i end
    pool:map(task, list)
  end)
end

function run.queue(kind, us)
  local q, item = mp.Queue(1024), kind == "int" and 123456 or ("x"):rep(1024)
  us = us or 0
  pair(function(n) for _ = 1, n do q:put(item) end end,
    function(n)
      for _ = 1, n do
        q:get()
        work(us)
      end
    end)
end

function run.alone(us)
  local q = mp.Queue()
  us = us or 0
  measure(pids_of{}, function(n)
    for i = 1, n do
      q:put(i)
      q:get()
      work(us)
    end
  end)
end

function run.lock(us)
  local lock = mp.Lock()
  us = us or 0
  local function take(n)
    for _ = 1, n // 2 do
      lock:acquire()
      work(us)
      lock:release()
    end
  end
  pair(take, take)
end

local words = {}
for i = 2, #arg do words[i - 1] = tonumber(arg[i]) or arg[i] end
run[arg[1]](table.unpack(words))
