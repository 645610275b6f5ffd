-- Shared by all Lua programs of the benchmarks: the clock, the loop that finds how many operations
-- fill the measured time, and the one line of output. Our rows and the Lua peers use it alike;
-- peers/bench.py and raw/bench.h are its equivalents in their languages. Programs run from the root
-- of the repository.

local bench = {}

-- The minimum duration of the last, counted, run of a program.
local least = tonumber(os.getenv "BENCH_SECONDS") or 0.3

--- Wall clock in seconds. LuaSocket's, because Lua itself has no sub-second wall clock.
bench.now = require("socket").gettime

--- Prints the one line the harness reads.
---@param value number
---@param unit "ns"|"bytes"|"%"|"x"
function bench.report(value, unit)
  print(("%.6g %s"):format(value, unit))
end

--- Measures the cost of one operation and reports it in ns. `work` gets ever larger multiples of `first` until a run
--- fills the measured time; only that last run counts. It may return its own seconds to leave its set-up out.
---@param work fun(n: integer): number?
---@param first? integer  the number of operations of the first run, 1000 when absent
function bench.ns(work, first)
  local n = first or 1000
  while true do
    local start = bench.now()
    local seconds = work(n) or bench.now() - start
    if seconds >= least then return bench.report(seconds / n * 1e9, "ns") end
    n = n * math.max(2, math.min(10, math.ceil(least / seconds)))
  end
end

--- Runs work(1) to work(count) in a child each: the seconds from when all are there until all have ended. For our rows.
---@param count integer
---@param work fun(n: integer)
---@return number
function bench.together(count, work)
  local mp = require "mpengine"
  local ready, done, go = mp.Semaphore(0), mp.Semaphore(0), mp.Event()
  local function child(n)
    collectgarbage() -- the first cycle in a child copies the pages of all that the parent has
    ready:release()
    go:wait()
    work(n)
    done:release()
  end
  local children = {}
  for n = 1, count do
    children[n] = mp.Process(child, n)
    children[n]:start()
  end
  for _ = 1, count do ready:acquire() end
  local start = bench.now()
  go:set()
  for _ = 1, count do done:acquire() end
  local seconds = bench.now() - start
  for _, p in ipairs(children) do p:join() end
  return seconds
end

--- Reports how much more two children do at once than one, each a half of the same work: work(1) and work(2).
---@param work fun(n: integer)
function bench.gain(work)
  local gains = {}
  for round = 1, 3 do gains[round] = 2 * bench.together(1, work) / bench.together(2, work) end
  bench.report(bench.median(gains), "x")
end

--- Bytes of this process that are in memory: all of them, or those of one line of /proc/self/status.
---@param line? string  "VmRSS" when absent; "RssShmem" is what it has touched of shared memory
function bench.resident(line)
  for l in io.lines "/proc/self/status" do
    local kib = l:match("^" .. (line or "VmRSS") .. ":%s*(%d+) kB")
    if kib then return tonumber(kib) * 1024 end
  end
end

--- The median of a list of numbers; the list is sorted.
function bench.median(list)
  table.sort(list)
  local middle = (#list + 1) // 2
  return #list % 2 == 1 and list[middle] or (list[middle] + list[middle + 1]) / 2
end

return bench
