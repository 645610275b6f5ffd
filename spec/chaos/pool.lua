-- Pool workers are killed with kill -9 at random while tasks run. With retries every result is right
-- and comes once; without, what fails is worker_died and nothing else, at most one task a kill.
-- usage: pool.lua [tasks [kills]]
local mp = require "mpengine"

local TASKS <const>, KILLS <const> = tonumber(arg[1]) or 100000, tonumber(arg[2]) or 1000

local function square(x) return x * x end

--- Kills a worker every few milliseconds until told to stop, or enough were killed.
local function start_killer(pool, done)
  return mp.co.spawn(function()
    local kills = 0
    while kills < KILLS and not done.flag do
      mp.sleep(math.random() * 0.004)
      local workers = pool:stats().workers
      local w = workers[math.random(math.max(1, #workers))]
      if w then
        os.execute("kill -9 " .. w.pid .. " 2>/dev/null")
        kills = kills + 1
      end
    end
    return kills
  end)
end

local function run(retries)
  local pool <close> = mp.Pool(4)
  local done, items, bad, failed = { flag = false }, {}, 0, 0
  for i = 1, TASKS do items[i] = i end
  local killer = start_killer(pool, done)
  local results = {}
  for i = 1, TASKS do
    results[i] = pool:apply_async(square, { i }, { retries = retries })
    if i % 1000 == 0 then results[i]:wait() end
  end
  for i = 1, TASKS do
    local ok, value = pcall(results[i].get, results[i], 60)
    if not ok then
      failed = failed + 1
      assert(value.kind == "worker_died", tostring(value))
    elseif value ~= i * i then
      bad = bad + 1
    end
  end
  done.flag = true
  local kills = killer:get()
  print(("retries %d: %d tasks, %d kills, %d failed, %d wrong"):format(retries, TASKS, kills, failed, bad))
  assert(bad == 0)
  assert(failed <= (retries > 0 and 0 or kills))
end

run(20)
run(0)
print "ok"
