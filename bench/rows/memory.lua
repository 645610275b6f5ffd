-- Bytes of shared memory per queue item (an integer), per dict entry (an 8-byte key, an integer) and per idle lock:
-- what this process touched of shared memory, divided by their number.
-- usage: memory.lua queue|dict|lock
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local fill = {}

function fill.queue(n)
  local q = mp.Queue()
  for i = 1, n do q:put(i) end
  return q
end

function fill.dict(n)
  local d = mp.Dict()
  for i = 1, n do d[("%08d"):format(i)] = i end
  return d
end

function fill.lock(n)
  local locks = {}
  for i = 1, n do locks[i] = mp.Lock() end
  return locks
end

local count = { queue = 100000, dict = 100000, lock = 10000 }
local kind = arg[1]

local warm = fill[kind](100) -- things that exist once, whatever the number
local before = bench.resident "RssShmem"
local kept = fill[kind](count[kind])
bench.report((bench.resident "RssShmem" - before) / count[kind], "bytes")
assert(warm and kept)
