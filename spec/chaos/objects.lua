-- A kill storm over the shared objects: workers put, get, lock and change things at random, and one
-- of them is killed with kill -9 every few milliseconds and replaced. Afterwards: no item was torn
-- or came twice, no more are missing than workers were killed, what a lock guards is whole or its
-- next owner was told, everything still works, and shared memory is back where it was.
-- usage: objects.lua [seconds]
local mp = require "mpengine"

local SECONDS <const> = tonumber(arg[1]) or 20
local WORKERS <const>, KEYS <const>, IDS <const> = 4, 50, 2000000
local seed = os.time()
math.randomseed(seed)
print(("seed %d, %d s, %d workers"):format(seed, SECONDS, WORKERS))

local stop, next_id = mp.Event(), mp.Value("i", 0)
local seen = mp.RawArray("B", IDS)              -- how often each item came out of the queue
local queue, dict, list = mp.Queue(64), mp.Dict(), mp.List()
local lock, pair, told = mp.RLock(), mp.RawArray("q", 2), mp.Value("i", 0)
local permits, failures = mp.Semaphore(3), mp.Queue()
local base = mp.stats().arena.used

local function item(id) return { id = id, text = ("%d,"):format(id):rep(id % 400 == 0 and 3000 or id % 40) } end

local function check(ok, what) if not ok then failures:put(what) end end

local actions = {
  function()
    local id = next_id:add(1)
    if id <= IDS then queue:put(item(id), 0.01) end
  end,
  function()
    local v = queue:get(0.01)
    if not v then return end
    check(v.text == item(v.id).text, "a torn item")
    check(seen[v.id] == 0, "an item that came twice")
    seen[v.id] = 1
  end,
  function()
    local key = math.random(KEYS)
    dict[key] = { key, ("v"):rep(math.random(300)), key }
    local v = dict[math.random(KEYS)]
    check(v == nil or v[1] == v[3], "a torn dict value")
  end,
  function() dict:pop(math.random(KEYS)) dict:incr("count") end,
  function()
    if #list < 200 then list:append{ math.random(100) } else list:pop(math.random(100)) end
    if math.random(20) == 1 then list:reverse() end
  end,
  function()
    local _, why = lock:acquire()
    if why == "owner_died" then
      told:add(1)
      pair[2] = pair[1] -- the dead one may have been between the two
    end
    check(pair[1] == pair[2], "a lock that let two in")
    pair[1] = pair[1] + 1
    pair[2] = pair[2] + 1
    lock:release()
  end,
  function() if permits:acquire(0.01) then permits:release() end end,
  function() -- an object that nobody else ever sees, and one that only the dict knows
    dict["object" .. math.random(5)] = mp.Lock()
    mp.Array("i", 100):fill(1)
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

local workers, kills = {}, 0
for i = 1, WORKERS do workers[i] = start() end
local deadline = mp.now() + SECONDS
while mp.now() < deadline do
  mp.sleep(math.random() * 0.01)
  local i = math.random(WORKERS)
  workers[i]:kill()
  workers[i]:join()
  kills = kills + 1
  workers[i] = start()
end
stop:set()
for i, p in ipairs(workers) do assert(p:join(10), "worker " .. i .. " hangs") end

local left = 0
for v in function() return (queue:get(0)) end do
  check(v.text == item(v.id).text and seen[v.id] == 0, "a torn or doubled item at the end")
  seen[v.id] = 1
  left = left + 1
end
local lost = 0
for id = 1, math.min(next_id.value, IDS) do if seen[id] == 0 then lost = lost + 1 end end
assert(lock:acquire(5), "the lock is lost")
lock:release()
assert(permits:get_value() == 3, "permits are lost: " .. permits:get_value())
dict:clear()
list:clear()
for _ = 1, 3 do collectgarbage() mp.Lock() end
local used = mp.stats().arena.used
print(("%d kills, %d items, %d left, %d not taken or lost, owner died %d times, memory %d -> %d bytes")
  :format(kills, next_id.value, left, lost, told.value, base, used))
local bad = failures:get(0)
if bad then error(bad) end
assert(used - base < 512 * 1024, "shared memory was lost")
print("ok")
