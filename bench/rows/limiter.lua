-- Take one token of a rate limiter that always has one: ns, in one process alone or in two at once.
-- usage: limiter.lua try|acquire|shared
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local limiter = mp.RateLimiter { rate = 1e9, burst = 1e9 }

local function take(n)
  for _ = 1, n do limiter:acquire() end
end

local run = { acquire = take }

function run.try(n)
  for _ = 1, n do limiter:try() end
end

function run.shared(n)
  return bench.together(2, function() take(n // 2) end)
end

bench.ns(run[arg[1]])
