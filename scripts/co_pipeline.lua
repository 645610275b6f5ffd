-- A pipeline of tasks and processes: lines are made here, processed by two other processes, and put
-- in order here again, all three stages at once.
-- Notice: each wait on a shared queue suspends one task; the others, the clock for example, go on.
local mp = require "mpengine"
local co = mp.co

local todo, done = mp.Queue(4), mp.Queue(4)

local function worker()
  for item in todo:iter() do
    local n, text = item[1], item[2]
    done:put { n, text:upper():reverse() }
  end
end

local workers = {}
for i = 1, 2 do
  workers[i] = mp.Process(worker)
  workers[i]:start()
end

local ticks = 0
local clock = co.spawn(function()
  while true do
    co.sleep(0.001)
    ticks = ticks + 1
  end
end)

local words = { "level", "stats", "drawer", "reward", "pals", "star", "evil", "flow", "loop", "time" }

co.spawn(function()
  for n, word in ipairs(words) do todo:put { n, word } end
  todo:close()
end)

local sorted = co.spawn(function()
  local results = {}
  for _ = 1, #words do
    local item = done:get()
    results[item[1]] = item[2]
  end
  return results
end)

print(table.concat(sorted:get(), " "))
for _, p in ipairs(workers) do p:join() end
clock:kill()
print(ticks >= 0 and "the clock ran beside it")
