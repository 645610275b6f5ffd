-- The limit of acquire+release: two methods of a userdata, called from stock Lua, that are C functions and do next to
-- nothing (`type`). ns per two calls.
local bench = dofile "bench/lib.lua"

local object = debug.setmetatable(io.tmpfile(), { __index = { acquire = type, release = type } })

bench.ns(function(n)
  for _ = 1, n do
    object:acquire()
    object:release()
  end
end)
