-- A shared dict of many keys of 16 bytes with values of 64 bytes, walked in random order: ns per get or set; for
-- `scale`, how many times as much two processes on different keys do as one.
-- usage: dict.lua get|set|scale [KEYS]      100,000 when absent, far more than the caches hold
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local COUNT <const> = math.tointeger(arg[2] or 100000)
local value = ("v"):rep(64)

local keys, d = {}
do -- nothing of the copy is left as work for the collector
  local contents = {}
  for i = 1, COUNT do
    keys[i] = ("key:%012d"):format(i)
    contents[keys[i]] = value
  end
  d = mp.Dict(contents)
end
math.randomseed(1)
for i = COUNT, 2, -1 do
  local j = math.random(i)
  keys[i], keys[j] = keys[j], keys[i]
end

local run = {}

function run.get()
  bench.ns(function(n)
    local x
    for i = 1, n do x = d[keys[i % COUNT + 1]] end
    return nil, x
  end)
end

function run.set()
  bench.ns(function(n)
    for i = 1, n do d[keys[i % COUNT + 1]] = value end
  end)
end

function run.scale()
  local rounds <const>, passes <const> = 3, 5
  local ready, done, go = mp.Semaphore(0), mp.Semaphore(0), mp.Semaphore(0)

  -- Seconds for `processes` children to do the same work each, every one on its own half of the keys.
  local function seconds(processes)
    local children = {}
    for c = 1, processes do
      children[c] = mp.Process{ target = function()
        -- The collector's first cycle in a child copies the pages of all keys, at a cost far above that of the dict.
        collectgarbage()
        ready:release()
        go:acquire()
        for _ = 1, passes do
          for i = c, COUNT, 2 do d[keys[i]] = d[keys[i]] end
        end
        done:release()
      end }
      children[c]:start()
    end
    for _ = 1, processes do ready:acquire() end
    local start = bench.now()
    for _ = 1, processes do go:release() end
    for _ = 1, processes do done:acquire() end
    local took = bench.now() - start
    for _, p in ipairs(children) do p:join() end
    return took
  end

  local gains = {}
  for r = 1, rounds do gains[r] = 2 * seconds(1) / seconds(2) end
  bench.report(bench.median(gains), "x")
end

run[arg[1]]()
