-- The codec on two sets of data, 100,000 integers and 10,000 records: ns to encode or decode all of it, and its bytes.
-- usage: codec.lua encode|decode|bytes ints|records
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local make = {}

function make.ints()
  local list = {}
  for i = 1, 100000 do list[i] = i end
  return list
end

function make.records()
  local list = {}
  for i = 1, 10000 do
    list[i] = {
      id = i, name = "user-" .. i, score = i * 0.37, active = i % 2 == 0,
      tags = { "red", "green", "tag-" .. i % 100 }, place = { x = i, y = -i },
    }
  end
  return list
end

local data = make[arg[2]]()
local bytes = mp.codec.encode(data)

local run = {}

function run.encode()
  bench.ns(function(n)
    for _ = 1, n do mp.codec.encode(data) end
  end, 1)
end

function run.decode()
  bench.ns(function(n)
    for _ = 1, n do mp.codec.decode(bytes) end
  end, 1)
end

function run.bytes()
  bench.report(#bytes, "bytes")
end

run[arg[1]]()
