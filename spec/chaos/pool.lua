-- Pool workers are killed with kill -9 at random while tasks run: calls, chunks of a map, an imap.
-- With retries every result is right and present once. Without, a failure is always worker_died,
-- caused by a worker that was killed, at most one item a kill, and everything else is right.
-- usage: pool.lua [tasks [kills [apply_async|map|imap]]]
local mp = require "mpengine"
local kill_pid <const> = require("mpengine.core").kill_pid

local TASKS <const>, KILLS <const> = tonumber(arg[1]) or 100000, tonumber(arg[2]) or 1000
local seed <const> = os.time()
math.randomseed(seed)
print("seed " .. seed)

local runs = mp.RawArray("H", TASKS) -- how often each item began

local function square(x)
  runs[x] = runs[x] + 1
  if x % 50 == 0 then mp.sleep(0.002) end -- so that kills hit running items
  return x * x
end

-- A worker that has not been killed yet, preferably one that is running tasks.
local function kill_one(pool, killed)
  local workers = pool:stats().workers
  local from = math.random(math.max(1, #workers))
  for k = 1, #workers do
    local w = workers[(from + k) % #workers + 1]
    local wanted = w.state ~= "starting" or math.random(10) == 1
    if wanted and not killed[w.pid] and kill_pid(w.pid, 9) then
      killed[w.pid] = 0
      return true
    end
  end
end

-- Each way gives every item to done(index, ok, value or error), and calls tick as often.
local ways = {}

function ways.apply_async(pool, retries, done, tick)
  local ahead <const> = 500
  local results = {}
  local function take(i)
    done(i, pcall(results[i].get, results[i], 60))
    results[i] = nil
    tick()
  end
  for i = 1, TASKS do
    results[i] = pool:apply_async(square, { i }, { retries = retries })
    if i > ahead then take(i - ahead) end
  end
  for i = math.max(1, TASKS - ahead + 1), TASKS do take(i) end
end

-- A map reports its first error only: it counts for the first item of the list, the others count as right.
function ways.map(pool, retries, done, tick)
  local part <const> = 1000
  for first = 1, TASKS, part do
    local list = {}
    for i = first, math.min(first + part - 1, TASKS) do list[#list + 1] = i end
    local last = 0
    local function progress(ended)
      for _ = last + 1, ended do tick() end
      last = ended
    end
    local ok, values = pcall(pool.map, pool, square, list, { retries = retries, progress = progress })
    for k, i in ipairs(list) do
      if ok then done(i, true, values[k]) else done(i, k > 1, k > 1 and i * i or values) end
    end
  end
end

function ways.imap(pool, retries, done, tick)
  local function numbers(_, i)
    i = (i or 0) + 1
    return i <= TASKS and i or nil
  end
  local next_item <const>, state <const> = pool:imap(square, numbers, { retries = retries, chunksize = 10 })
  for at = 1, TASKS + 1 do
    local ok, index, value = pcall(next_item, state, at)
    if ok and index == nil then
      assert(at == TASKS + 1, "imap gave too few items")
      return
    end
    done(at, ok, ok and value or index)
    tick()
  end
  error("imap gave too many items")
end

local function run(way, retries)
  local pool <close> = mp.Pool(4)
  runs:fill(0)
  local killed, kills, seen, failed, bad, count = {}, 0, {}, 0, 0, 0
  ways[way](pool, retries, function(i, ok, value)
    if seen[i] or (ok and value ~= i * i) then bad = bad + 1 end
    seen[i] = true
    if ok then return end
    failed = failed + 1
    assert(type(value) == "table" and value.kind == "worker_died" and value.signal == 9, tostring(value))
    assert(killed[value.pid], "a worker that was not killed died:  " .. tostring(value))
    killed[value.pid] = killed[value.pid] + 1
    assert(killed[value.pid] == 1, "a kill has cost two items")
  end, function()
    count = count + 1
    local is_due = count % 20 == 0 and kills < count // (TASKS // KILLS)
    if is_due and kill_one(pool, killed) then kills = kills + 1 end
  end)
  local again = 0
  for i = 1, TASKS do
    assert(seen[i], "an item without result")
    if runs[i] > 1 then again = again + 1 end
  end
  print(("%s, retries %d: %d tasks, %d kills, %d failed, %d begun again, %d wrong"):format(way, retries, TASKS, kills,
    failed, again, bad))
  assert(bad == 0 and count == TASKS)
  assert(failed <= (retries > 0 and 0 or kills))
  assert(retries > 0 or again == 0, "an item that had begun has run again")
end

for _, way in ipairs(arg[3] and { arg[3] } or { "apply_async", "map", "imap" }) do
  run(way, 20)
  run(way, 0)
end
print "ok"
