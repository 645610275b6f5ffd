-- A cache in front of an expensive function, for several processes.
-- Notice: the four processes ask for one key at the same time, and the function is
-- called once: one process computes, the others wait for its result. The second time
-- the value is there.
local mp = require "mpengine"

local cache = mp.Cache{ size = "1M", ttl = 60 }
local calls = mp.Value("i", 0)
local together = mp.Barrier(4)

local function expensive(name)
  calls:add(1)
  mp.sleep(0.2)
  return { name = name, letters = #name, by = mp.current_process().name }
end

local function ask(n)
  together:wait()
  local value = cache:fetch("mpengine", expensive)
  assert(value.letters == 8)
  local again = cache:fetch("mpengine", expensive)
  print(("process %d: computed by %s"):format(n, again.by == value.by and "one" or "two"))
end

local processes = {}
for n = 1, 4 do
  processes[n] = mp.Process(ask, n)
  processes[n]:start()
end
for _, p in ipairs(processes) do p:join() end

local stats = cache:stats()
print(("the function was called %d time, %d waited for it"):format(calls.value, stats.waited))
