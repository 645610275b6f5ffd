-- A shared cache that has all keys, of 16 bytes with values of 64 bytes, walked in random order: ns per get, set or
-- fetch; dict_get and dict_set are those of a shared dict, by the same methods. `scale`: how many times as much two
-- processes on one cache do as one, nine gets and a set in turn. `churn`: how much the memory of all has grown, in %
-- of the cache's size, after it was filled and overwritten with items of changing sizes.
-- usage: cache.lua get|set|fetch|dict_get|dict_set|scale|churn [KEYS | MIB]
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local count <const> = math.tointeger(arg[2] or 100000)
local value = ("v"):rep(64)
local SIZE <const> = "32M" -- 100,000 items take 13 MB
local run = {}

local function shuffled_keys()
  local keys = {}
  for i = 1, count do keys[i] = ("key:%012d"):format(i) end
  math.randomseed(1)
  for i = count, 2, -1 do
    local j = math.random(i)
    keys[i], keys[j] = keys[j], keys[i]
  end
  return keys
end

local function filled(object, keys)
  for i = 1, count do object:set(keys[i], value) end
  return object
end

local function get(object)
  local keys = shuffled_keys()
  filled(object, keys)
  bench.ns(function(n)
    local x
    for i = 1, n do x = object:get(keys[i % count + 1]) end
    return nil, x
  end)
end

local function set(object)
  local keys = shuffled_keys()
  filled(object, keys)
  bench.ns(function(n)
    for i = 1, n do object:set(keys[i % count + 1], value) end
  end)
end

function run.get() get(mp.Cache{ size = SIZE }) end
function run.set() set(mp.Cache{ size = SIZE }) end
function run.dict_get() get(mp.Dict()) end
function run.dict_set() set(mp.Dict()) end

function run.fetch()
  local keys = shuffled_keys()
  local c = filled(mp.Cache{ size = SIZE }, keys)
  local function f() error "a key is missing" end
  bench.ns(function(n)
    local x
    for i = 1, n do x = c:fetch(keys[i % count + 1], f) end
    return nil, x
  end)
end

function run.scale()
  local keys = shuffled_keys()
  local c = filled(mp.Cache{ size = SIZE }, keys)
  bench.gain(function(first)
    for _ = 1, 5 do
      for i = first, count, 2 do
        if i % 20 < 2 then c:set(keys[i], value) else c:get(keys[i]) end
      end
    end
  end)
end

function run.churn()
  local size = math.tointeger(arg[2] or 1024) << 20
  local c = mp.Cache{ size = size }
  local sizes <const> = { 100, 10240, 400, 3000, 100000 }
  local before
  for round = 0, #sizes do
    local v = ("x"):rep(sizes[round % #sizes + 1])
    for i = 1, size // #v do c:set(round << 32 | i, v) end
    before = before or mp.stats().arena.committed
  end
  assert(c:stats().bytes <= size)
  bench.report(100 * (mp.stats().arena.committed - before) / size, "%")
end

run[arg[1]]()
