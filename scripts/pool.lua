-- Thirty tasks on three workers.
--   pool.lua              apply_async: all are queued at once, three run at a time
--   pool.lua apply        apply: the main script waits for each before the next
--   pool.lua terminate    apply_async, then terminate: queued tasks never run
-- Notice: the workers are real processes, there are three pids, and 'end' is printed last, because
-- join waits for the workers.
local mp = require "mpengine"

local mode = arg and arg[1] or "apply_async"
if mode ~= "apply_async" and mode ~= "apply" and mode ~= "terminate" then
  error("pool.lua: expected apply_async, apply or terminate, got " .. mode, 0)
end

local function task(n)
  mp.sleep(0.1)
  print(("task %2d in process %d"):format(n, mp.current_process().pid))
  return n * n
end

local pool <close> = mp.Pool(3)
local results = {}
for n = 1, 30 do
  if mode == "apply" then
    pool:apply(task, { n })
  else
    results[n] = pool:apply_async(task, { n })
  end
end

if mode == "terminate" then
  results[1]:wait()
  pool:terminate()
else
  pool:close()
end
pool:join()

if mode == "apply_async" then
  local sum = 0
  for _, r in ipairs(results) do sum = sum + r:get() end
  print("sum of squares", sum)
end
print "end"
