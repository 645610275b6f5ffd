-- The codec on two sets of data, 100,000 integers and 10,000 records: ns to encode or decode all of it, and its bytes.
-- And a function of 2 KiB of bytecode, or an integer, that goes through a queue and back again and again, in one
-- process: ns for one, and its bytes when it is not the first.
-- usage: codec.lua encode|decode|bytes ints|records      codec.lua again|bytes function|int
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

make["function"] = function()
  local lines = { "local a, b = ... return function(t, x)" }
  for i = 1, 60 do lines[#lines + 1] = ("t[%d] = x * %d + a"):format(i, i) end
  lines[#lines + 1] = "b = b + 1 return b end"
  return load(table.concat(lines, "\n"), "=work.lua")(1, 2)
end

function make.int() return 123456 end

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

function run.again()
  local q = mp.Queue()
  bench.ns(function(n)
    for _ = 1, n do
      q:put(data)
      q:get()
    end
  end)
end

function run.bytes()
  if arg[2] == "function" then bytes = require "mpengine.core".encode_value("bytes", "value", data) end
  bench.report(#bytes, "bytes")
end

run[arg[1]]()
