-- Pool workers are killed with kill -9 at random while tasks run. With retries every result is right
-- and comes once; without, what fails is worker_died and nothing else, at most one task a kill.
-- usage: pool.lua [tasks [kills]]
local mp = require "mpengine"

local TASKS <const>, KILLS <const> = tonumber(arg[1]) or 100000, tonumber(arg[2]) or 1000

local function square(x)
  if x % 100 == 0 then mp.sleep(0.002) end -- so that kills find tasks under way
  return x * x
end

local function kill_one(pool)
  local workers = pool:stats().workers
  local w = workers[math.random(math.max(1, #workers))]
  if w then os.execute("kill -9 " .. w.pid .. " 2>/dev/null") end
  return w and 1 or 0
end

local function run(retries)
  local pool <close> = mp.Pool(4)
  local step <const>, ahead <const> = TASKS // KILLS, 2000
  local results, bad, failed, kills = {}, 0, 0, 0
  local function take(i)
    local ok, value = pcall(results[i].get, results[i], 60)
    results[i] = nil
    if not ok then
      failed = failed + 1
      assert(value.kind == "worker_died", tostring(value))
    elseif value ~= i * i then
      bad = bad + 1
    end
  end
  for i = 1, TASKS do
    results[i] = pool:apply_async(square, { i }, { retries = retries })
    if i % step == 0 then kills = kills + kill_one(pool) end
    if i > ahead then take(i - ahead) end
  end
  for i = math.max(1, TASKS - ahead + 1), TASKS do take(i) end
  print(("retries %d: %d tasks, %d kills, %d failed, %d wrong"):format(retries, TASKS, kills, failed, bad))
  assert(bad == 0)
  assert(failed <= (retries > 0 and 0 or kills))
end

run(20)
run(0)
print "ok"
