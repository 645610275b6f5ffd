-- The limit of reading 1 MiB as a string: stock Lua copies as much of a string that it has. ns per copy.
local bench = dofile "bench/lib.lua"

local text = ("x"):rep((1 << 20) + 1)

bench.ns(function(n)
  for _ = 1, n do text:sub(2) end
end, 10)
