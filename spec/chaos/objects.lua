-- A kill storm over the shared objects. Workers put, get, lock, wait, notify and change objects of
-- every kind at random, and some of them are killed with kill -9 every few milliseconds and
-- replaced. Afterwards no item was torn or arrived twice, and no more are missing than workers were
-- killed. What a lock guards is whole, or its next owner got "owner_died". No process hangs,
-- everything works, and no object and no memory is left.
-- usage: objects.lua [seconds [kills]]: ends when one of the two is reached
local mp = require "mpengine"
local core = require "mpengine.core"

local SECONDS <const>, KILLS <const> = tonumber(arg[1]) or 20, tonumber(arg[2]) or math.huge
local WORKERS <const>, KEYS <const>, IDS <const> = 4, 50, 4000000
local PATIENCE <const> = 30 -- seconds after which something hangs
local seed = os.time()
math.randomseed(seed)
print(("seed %d, %s s, %s kills, %d workers"):format(seed, SECONDS, KILLS, WORKERS))
io.stdout:flush()

mp.stats()
collectgarbage()
local base = mp.stats()

-- A function, so that everything it made is garbage afterwards.
local function storm()
  local stop, next_id, failures = mp.Event(), mp.Value("q", 0), mp.Queue()
  local was_put, was_got = mp.RawArray("B", IDS), mp.RawArray("B", IDS)
  local queues = { mp.Queue(64), mp.SimpleQueue(), mp.JoinableQueue(64) }
  local left_end, right_end = mp.Pipe()
  local dict, list, cache = mp.Dict(), mp.List(), mp.Cache{ size = "256K", ttl = 0.5 }
  local locks = { mp.Lock(), mp.RLock() }
  local pairs_of = { mp.RawArray("q", 2), mp.RawArray("q", 2) }
  local array, told = mp.Array("q", 8), mp.Value("i", 0)
  local semaphores = { mp.Semaphore(3), mp.BoundedSemaphore(2) }
  local event, condition, barrier = mp.Event(), mp.Condition(), mp.Barrier(2)
  local limiter, passed, began = mp.RateLimiter { rate = 5000, burst = 20 }, mp.Value("q", 0), mp.now()

  local function check(ok, what)
    if not ok then failures:put(what) end
  end

  local function item(id) return { id = id, text = ("%d,"):format(id):rep(id % 100 == 0 and 3000 or id % 40) } end

  local function got(v)
    check(v.text == item(v.id).text, "a torn item")
    check(was_got[v.id] == 0, "an item that came twice")
    was_got[v.id] = 1
  end

  local function give(put)
    local id = next_id:add(1)
    if id <= IDS and put(item(id)) then was_put[id] = 1 end
  end

  -- Adds one to both halves; a worker that got "owner_died" may find them unequal.
  local function with_lock(lock, pair)
    local ok, why = lock:acquire(PATIENCE)
    if not ok then return check(false, "a lock that is never released") end
    if why == "owner_died" then
      told:add(1)
      pair[2] = pair[1]
    end
    check(pair[1] == pair[2], "a lock that let two in, or a death that was not told")
    pair[1] = pair[1] + 1
    if math.random(3) == 1 then mp.sleep(0.001) end -- long enough to be killed here
    pair[2] = pair[2] + 1
    lock:release()
  end

  local makers = {
    mp.Lock, mp.RLock, mp.Event, mp.Condition, mp.Dict, mp.SimpleQueue, mp.JoinableQueue, mp.Pipe,
    function() return mp.Array("d", 100) end, function() return mp.Array("B", 200000) end,
    function() return mp.Value("i", 1) end, function() return mp.Barrier(2) end,
    function() return mp.Semaphore(1) end, function() return mp.RateLimiter(5) end,
    function() return mp.List{ 1, { 2 }, "three" } end, function() return mp.Cache{ size = "16K" } end,
    function() -- two that refer to each other
      local a, b = mp.Dict(), mp.List()
      a.b, b[1] = b, a
      return a
    end,
  }

  local actions = {
    function()
      local q = queues[math.random(#queues)]
      give(function(v) return q:put(v, 0.01) end)
    end,
    function()
      local q = queues[math.random(#queues)]
      local v = q:get(0.01)
      if v then
        got(v)
        if q == queues[3] then q:task_done() end
      end
    end,
    function() give(function(v) return right_end:send(v) end) end,
    function()
      local v = left_end:recv(0.01)
      if v then got(v) end
    end,
    function()
      local key = math.random(KEYS)
      dict[key] = { key, ("v"):rep(math.random(300)), key }
      local v = dict[math.random(KEYS)]
      check(type(v) ~= "table" or v[1] == v[3], "a torn dict value")
    end,
    function()
      dict:pop(math.random(KEYS))
      dict:incr("count")
    end,
    function() dict:modify("pair", function(v) return { (v and v[1] or 0) + 1, (v and v[2] or 0) + 1 } end) end,
    function()
      local v = dict.pair
      check(v == nil or v[1] == v[2], "a half modified dict value")
      if math.random(50) == 1 then dict:clear() end
    end,
    function() -- items of all sizes, more than there is room for
      local key = math.random(4 * KEYS)
      cache:set(key, { key, ("c"):rep(math.random(20) == 1 and math.random(60000) or math.random(500)), key })
      local v = cache:get(math.random(4 * KEYS))
      check(v == nil or v[1] == v[3], "a torn value in a cache")
    end,
    function()
      cache:delete(math.random(4 * KEYS))
      cache:incr("count", 1, 0)
      if math.random(100) == 1 then cache:clear() end
    end,
    function() -- one computes, the others wait, and any of them may die
      local key = "computed" .. math.random(3)
      local ok, v = pcall(cache.fetch, cache, key, function()
        if math.random(3) == 1 then mp.sleep(0.001) end
        if math.random(5) == 1 then error("no value", 0) end
        return { key, makers[math.random(#makers)](), key }
      end, { ttl = 0.002, timeout = PATIENCE })
      check(ok and v and v[1] == key and v[3] == key or v == "no value", "a fetch without a result: " .. tostring(v))
    end,
    function()
      if #list < 200 then list:append{ math.random(100) } else list:pop(math.random(100)) end
      if math.random(20) == 1 then list:reverse() end
      if math.random(50) == 1 then list:insert(1, ("x"):rep(5000)) end
      if math.random(200) == 1 then list:clear() end
    end,
    function()
      local i = math.random(#locks)
      with_lock(locks[i], pairs_of[i])
    end,
    function()
      local lock = array:get_lock()
      local _, why = lock:acquire()
      if why then array:fill(0) end
      local all = array:totable()
      for i = 2, 8 do check(all[i] == all[1], "an array changed under its lock") end
      array:fill(all[1] + 1)
      lock:release()
    end,
    function()
      local s = semaphores[math.random(#semaphores)]
      if s:acquire(0.01) then s:release() end
    end,
    function()
      local n = math.random(20)
      if limiter:acquire(n, 0.01) then passed:add(n) end
    end,
    function() if math.random(2) == 1 then event:set() else event:clear() end end,
    function() event:wait(0.002) end,
    function()
      condition:acquire()
      if math.random(2) == 1 then condition:notify(math.random(3)) else condition:wait(0.002) end
      condition:release()
    end,
    function() if not barrier:wait(0.002) then barrier:reset() end end,
    function() mp.wait({ queues[1], left_end, event }, 0.002) end,
    function() -- an object that only the dict holds, in place of another one
      dict["object" .. math.random(5)] = makers[math.random(#makers)]()
    end,
    function() -- and one that no other process ever sees
      local object = makers[math.random(#makers)]()
      check(tostring(object) ~= "", "an object without a name")
    end,
    function()
      local object = dict["object" .. math.random(5)]
      if object then list:append(object) end
    end,
  }

  local function work()
    math.randomseed(seed, mp.current_process().pid)
    while not stop:is_set() do actions[math.random(#actions)]() end
  end

  local function start()
    local p = mp.Process{ target = work, daemon = true }
    p:start()
    return p
  end

  -- ---- the storm

  local workers, kills, most_used = {}, 0, 0
  for i = 1, WORKERS do workers[i] = start() end
  local deadline = mp.now() + SECONDS
  while mp.now() < deadline and kills < KILLS do
    mp.sleep(math.random() * 0.005)
    local first, count = math.random(WORKERS), math.random(WORKERS) -- the repairing process may be killed too
    for i = first, first + count - 1 do workers[i % WORKERS + 1]:kill() end
    for i = first, first + count - 1 do
      local p = workers[i % WORKERS + 1]
      assert(p:join(PATIENCE), "a killed worker does not end")
      assert(p.exitcode == -9, "a worker ended by itself, with " .. p.exitcode)
      workers[i % WORKERS + 1] = start()
    end
    kills = kills + count
    most_used = math.max(most_used, mp.stats().arena.used)
  end
  stop:set()
  for i, p in ipairs(workers) do
    assert(p:join(PATIENCE), "worker " .. i .. " hangs")
    assert(p.exitcode == 0, "worker " .. i .. " ended with " .. p.exitcode)
  end

  -- ---- the remaining objects work

  local function drain(get)
    local n = 0
    for v in get do
      got(v)
      n = n + 1
    end
    return n
  end
  local left = drain(function() return (queues[1]:get(0)) end) + drain(function() return (queues[2]:get(0)) end)
  left = left + drain(function()
    local v = queues[3]:get(0)
    if v then queues[3]:task_done() end
    return v
  end)
  assert(queues[3]:join(PATIENCE), "the tasks of the dead are not done")
  right_end:close()
  left = left + drain(function() return (left_end:recv(0)) end)
  assert(select(2, left_end:recv(PATIENCE)) == "closed", "a pipe without writers does not end")
  left_end:close()

  local lost, unsaid, last = 0, 0, math.min(next_id.value, IDS)
  for id = 1, last do
    if was_put[id] == 1 and was_got[id] == 0 then lost = lost + 1 end
    if was_put[id] == 0 and was_got[id] == 1 then unsaid = unsaid + 1 end
  end
  for i, lock in ipairs(locks) do with_lock(lock, pairs_of[i]) end
  assert(array:get_lock():acquire(PATIENCE), "the lock of an array is lost")
  array:get_lock():release()
  assert(semaphores[1]:get_value() == 3 and semaphores[2]:get_value() == 2, "permits are lost")
  assert(limiter:acquire(20, PATIENCE), "the dead still wait for a limiter")
  assert(passed.value <= (mp.now() - began) * 5000, "a limiter let through more than its rate")
  assert(condition:acquire(PATIENCE), "the lock of a condition is lost")
  local waiter = mp.co.spawn(function()
    condition:acquire()
    local ok = condition:wait(PATIENCE)
    condition:release()
    return ok
  end)
  condition:release()
  mp.sleep(0)
  condition:acquire()
  condition:notify(1)
  condition:release()
  assert(waiter:get(PATIENCE) == true, "a notification went to the dead")
  barrier:reset()
  assert(not barrier.broken and barrier.n_waiting == 0, "the barrier counts the dead")
  dict:set("pair", 1)
  assert(dict.pair == 1 and #dict > 0)
  dict:clear()
  list:clear()
  list:append(1)
  for _, k in ipairs(cache:keys()) do cache:delete(k) end
  cache:touch "none"
  mp.sleep(0.6) -- what is left has expired
  assert(cache:stats().entries == 0, "a cache counts what is not there")
  cache:clear()
  assert(cache:stats().bytes == 0 and cache:set("k", ("x"):rep(200000)), "a cache has lost memory")
  assert(cache:fetch("f", function() return 1 end, { timeout = 0 }) == 1, "a flight has been left by the dead")
  assert(#dict == 0 and #list == 1 and list[1] == 1)

  print(("%d kills, %d items, %d left, %d lost with their taker, %d put by one that could not say so")
    :format(kills, next_id.value, left, lost, unsaid) .. (", owner died %d times"):format(told.value))
  local bad = failures:get(0)
  if bad then error(bad) end
  assert(lost <= kills, "more items were lost than workers were killed")
  assert(unsaid <= kills, "more items came than were put")

  local violations = core.check_arena()
  assert(#violations == 0, table.concat(violations, "\n"))
  return most_used
end

-- ---- and nothing of them is left

local most_used = storm()
collectgarbage()
for _ = 1, 3 do -- removals from containers cause a sweep
  do
    local d = mp.Dict()
    for _ = 1, 100 do d.lock = mp.Lock() end
  end
  collectgarbage()
end
local now = mp.stats()
print(("memory %d, at most %d, now %d bytes; objects %d, now %d; processes %d")
  :format(base.arena.used, most_used, now.arena.used, #base.objects, #now.objects, #now.processes))
assert(#now.processes == #base.processes, "a dead process has kept its slot")
assert(#now.objects <= #base.objects + 100, "objects were lost")
assert(now.arena.used <= base.arena.used + 16384, "shared memory was lost")
print("ok")
