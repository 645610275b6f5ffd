-- Event, Condition and Semaphore between processes.
-- Notice: no runner starts before the event is set; the baker wakes the eaters through the
-- condition, and each cake is eaten once; never more than two are inside the semaphore, though five
-- want to be.
local mp = require "mpengine"

local function start_all(n, target)
  local list = {}
  for i = 1, n do
    list[i] = mp.Process(target, i)
    list[i]:start()
  end
  return function()
    for _, p in ipairs(list) do p:join() end
  end
end

-- An event releases all its waiters at once.
local go, gone = mp.Event(), mp.Value("i", 0)
local join = start_all(3, function()
  go:wait()
  gone:add(1)
end)
print("event: before set,", gone.value, "have gone")
go:set()
join()
print("event: after set,", gone.value, "have gone")

-- A condition waits until something about shared data is true.
local cond, cakes, eaten = mp.Condition(), mp.Value("i", 0), mp.Value("i", 0)
join = start_all(3, function()
  local _ <close> = cond:guard()
  cond:wait_for(function() return cakes.value > 0 end)
  cakes:add(-1)
  eaten:add(1)
end)
for _ = 1, 3 do
  local _ <close> = cond:guard()
  cakes:add(1)
  cond:notify()
end
join()
print("condition:", eaten.value, "cakes eaten,", cakes.value, "left")

-- A semaphore admits a bounded number.
local sem, inside, most = mp.Semaphore(2), mp.Value("i", 0), mp.Value("i", 0)
join = start_all(5, function()
  local _ <close> = sem:guard()
  local now = inside:add(1)
  if now > 2 then most:add(1) end
  mp.sleep(0.05)
  inside:add(-1)
end)
join()
print("semaphore: two at a time,", most.value, "times more")
