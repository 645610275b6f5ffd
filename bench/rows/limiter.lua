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
  local ready, done, go = mp.Semaphore(0), mp.Semaphore(0), mp.Event()
  local children = {}
  for c = 1, 2 do
    children[c] = mp.Process { target = function()
      ready:release()
      go:wait()
      take(n // 2)
      done:release()
    end }
    children[c]:start()
  end
  for _ = 1, 2 do ready:acquire() end
  local start = bench.now()
  go:set()
  for _ = 1, 2 do done:acquire() end
  local seconds = bench.now() - start
  for _, p in ipairs(children) do p:join() end
  return seconds
end

bench.ns(run[arg[1]])
