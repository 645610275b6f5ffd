-- Many things at once, in one process: each takes its time, all together take as long as the
-- longest.
-- Notice: the results are in the order of the list, whichever task was first. An expected failure
-- is caught in the task (an error that no call raises would be printed), and the others go on.
local mp = require "mpengine"
local co = mp.co

local function fetch(name, seconds)
  co.sleep(seconds) -- stands for a request
  if name == "cherry" then error("no such page", 0) end
  return name .. ": " .. #name .. " letters"
end

local jobs = { { "apple", 0.06 }, { "banana", 0.02 }, { "cherry", 0.04 }, { "date", 0.01 } }

local start = mp.now()
local tasks = {}
for i, job in ipairs(jobs) do tasks[i] = co.spawn(pcall, fetch, job[1], job[2]) end
co.joinall(tasks)
local seconds = mp.now() - start

for _, task in ipairs(tasks) do
  local ok, result = task:get()
  print(ok and result or "failed: " .. result)
end
print(seconds < 0.13 and "together" or "one after the other")

-- The same with at most two of them at a time.
local pool = co.Pool(2)
for i, square in pool:imap(function(x) co.sleep(0.01) return x * x end, { 1, 2, 3, 4 }) do
  print(i, square)
end
