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
  bench.gain(function(first)
    for _ = 1, 5 do
      for i = first, COUNT, 2 do d[keys[i]] = d[keys[i]] end
    end
  end)
end

run[arg[1]]()
