-- The limit of a switch between tasks: resume a coroutine that yields at once. ns per resume+yield.
local bench = dofile "bench/lib.lua"

bench.ns(function(n)
  local yield, resume = coroutine.yield, coroutine.resume
  local thread = coroutine.create(function()
    while true do yield() end
  end)
  for _ = 1, n do resume(thread) end
end)
