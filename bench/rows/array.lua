-- Shared arrays: ns per element for get and set, ns per whole slice of 1 MiB for the rest.
-- usage: array.lua get|set|totable|settable|string|set_string|fill, or sum|min|dot|scale|axpy code elements: ns per
-- operation on all of them
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local run = {}

function run.get()
  local a = mp.Array("i", 1024)
  bench.ns(function(n)
    for i = 1, n do local _ = a[(i & 1023) + 1] end
  end)
end

function run.set()
  local a = mp.Array("i", 1024)
  bench.ns(function(n)
    for i = 1, n do a[(i & 1023) + 1] = i end
  end)
end

function run.totable()
  local a = mp.Array("d", 131072)
  bench.ns(function(n)
    for _ = 1, n do a:totable() end
  end, 1)
end

function run.settable()
  local a = mp.Array("d", 131072)
  local list = a:totable()
  bench.ns(function(n)
    for _ = 1, n do a:set(list) end
  end, 1)
end

function run.string()
  local a = mp.Array("c", ("x"):rep(1 << 20))
  bench.ns(function(n)
    for _ = 1, n do a:string() end
  end, 10)
end

function run.set_string()
  local bytes = ("x"):rep(1 << 20)
  local a = mp.Array("c", bytes)
  bench.ns(function(n)
    for _ = 1, n do a:set_string(bytes) end
  end, 10)
end

function run.fill()
  local a = mp.Array("d", 131072)
  bench.ns(function(n)
    for _ = 1, n do a:fill(1.5) end
  end, 10)
end

-- A method on all elements, with arguments.
local function calculation(name, ...)
  local code, n = arg[2], tonumber(arg[3])
  local x, y = mp.RawArray(code, n), mp.RawArray(code, n)
  x:fill(1)
  y:fill(2)
  local method, args = x[name], { ... }
  for i, v in ipairs(args) do if v == "y" then args[i] = y end end
  bench.ns(function(rounds)
    for _ = 1, rounds do method(x, args[1], args[2]) end
    if name == "axpy" then x:fill(1) end
  end, 10)
end
function run.sum() calculation("sum") end
function run.min() calculation("min") end
function run.dot() calculation("dot", "y") end
function run.scale() calculation("scale", 1) end
function run.axpy() calculation("axpy", 1, "y") end

run[arg[1]]()
