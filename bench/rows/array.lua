-- Shared arrays: ns per element for get and set, ns per whole slice of 1 MiB for the rest.
-- usage: array.lua get|set|get_field|set_field|set_struct|totable|settable|string|set_string|fill, or
-- sum|min|max|dot|scale|scale_double|axpy code elements [field]: ns per operation on all of them
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

function run.get_field()
  local a = mp.Array({ { "x", "d" }, { "y", "d" }, { "id", "i" } }, 1024)
  bench.ns(function(n)
    for i = 1, n do local _ = a[(i & 1023) + 1].x end
  end)
end

function run.set_field()
  local a = mp.Array({ { "x", "d" }, { "y", "d" }, { "id", "i" } }, 1024)
  bench.ns(function(n)
    for i = 1, n do a[(i & 1023) + 1].x = i end
  end)
end

function run.set_struct()
  local a, t = mp.Array({ { "x", "d" }, { "y", "d" }, { "id", "i" } }, 1024), { x = 1, y = 2, id = 3 }
  bench.ns(function(n)
    for i = 1, n do a[(i & 1023) + 1] = t end
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

-- A method on all elements, in turn with one factor and another that keeps them small. Processor time: these
-- rows are of one process, which others must not slow down.
local function calculation(name, with_other, factor, other)
  local code, n = arg[2], tonumber(arg[3])
  local x, y
  if arg[4] == "field" then
    local structs = mp.RawArray({ { "x", code }, { "y", code }, { "id", "i" } }, n)
    x, y = structs:field "x", structs:field "y"
  else
    x, y = mp.RawArray(code, n), mp.RawArray(code, n)
  end
  x:fill(1)
  y:fill(2)
  local method, last = x[name], factor and y or nil
  local first, second = factor or y, other or y
  if not with_other then last = nil end
  bench.ns(function(rounds)
    local start = os.clock()
    for _ = 1, rounds, 2 do
      method(x, first, last)
      method(x, second, last)
    end
    return os.clock() - start
  end, 10)
end
function run.sum() calculation("sum") end
function run.min() calculation("min") end
function run.max() calculation("max") end
function run.dot() calculation("dot", true) end
function run.scale()
  local is_float = arg[2] == "f" or arg[2] == "d"
  calculation("scale", false, is_float and 2 or -1, is_float and 0.5 or -1)
end
-- By a factor that is no float.
function run.scale_double() calculation("scale", false, 1.1, 1 / 1.1) end
function run.axpy() calculation("axpy", true, 1, -1) end

run[arg[1]]()
