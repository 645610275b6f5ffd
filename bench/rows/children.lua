-- What 100 forked children that do nothing cost a parent with 200 MB of Lua data: all memory of the 101 processes
-- (the sum of Pss, in which a page counts once) less what the parent had alone, in % of that.
-- Page tables, which the kernel keeps for every fork, are not in it.
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local CHILDREN, BYTES = 100, 200e6

local function pss(pid)
  for line in io.lines("/proc/" .. pid .. "/smaps_rollup") do
    local kib = line:match "^Pss:%s+(%d+) kB"
    if kib then return tonumber(kib) * 1024 end
  end
end

local heap = {}
while collectgarbage "count" * 1024 < BYTES do
  for _ = 1, 1000 do heap[#heap + 1] = { #heap, "item " .. #heap } end
end

local ready, stop = mp.Semaphore(0), mp.Event()
local function idle()
  ready:release()
  stop:wait()
end

local before = pss "self"
local children = {}
for i = 1, CHILDREN do
  children[i] = mp.Process{ target = idle, daemon = true }
  children[i]:start()
end
for _ = 1, CHILDREN do ready:acquire() end
local after = pss "self"
for _, child in ipairs(children) do after = after + pss(child.pid) end
stop:set()
for _, child in ipairs(children) do child:join() end
bench.report((after - before) / before * 100, "%")
assert(#heap > 0)
