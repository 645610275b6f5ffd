-- Managers of a URL: many tasks that use every kind of object that waits, and are killed, or have their limits, at any
-- moment, over a line that is cut. Then accounts: items, locks, permits, and what is left in the client and the server.
local support = require "spec.support"
local redis = require "spec.support.redis"

-- With this lease no wait asks again by itself, and no owner is judged dead: a wake-up that is lost stays lost.
local STORM = redis.LINE .. [[
local core = require "mpengine.core"
local SECONDS, TASKS = 4, 20
local m, sure = mp.Manager(LINE, { lease = 60 }), open{ lease = 60 }
local locks = { Lock = m:Lock "l", RLock = m:RLock "r", Semaphore = m:Semaphore("s", 2),
  BoundedSemaphore = m:BoundedSemaphore("b", 2) }
local c, e, b, q = m:Condition "c", m:Event "e", m:Barrier("bar", 3), m:Queue("q", 4)
local jobs, cache = m:JoinableQueue "j", m:Cache("ca", { size = "1M" })
local limiter = m:RateLimiter("li", { rate = 500, burst = 10 })
local d = m:dict("d", { x = 1 })

local inside, most = {}, { Semaphore = 2, BoundedSemaphore = 2 }
local function nap()
  local n = math.random(5)
  if n <= 2 then co.sleep(0) elseif n == 3 then co.sleep(math.random() * 0.004) end
end
-- Is in a section of which there are so many at once.
local function enter(name)
  inside[name] = (inside[name] or 0) + 1
  assert(inside[name] <= (most[name] or 1), name)
  return setmetatable({}, { __close = function() inside[name] = inside[name] - 1 end })
end
local function hold(name, o, timeout)
  if not o:acquire(timeout) then return end
  local _ <close> = setmetatable({}, { __close = function() o:release() end })
  local _ <close> = enter(name)
  nap()
end

local numbers, was_put, was_got = 0, {}, {}
local uses = {
  function(timeout)
    c:acquire()
    local _ <close> = setmetatable({}, { __close = function() c:release() end })
    c:wait(timeout or 0.05)
    local _ <close> = enter "Condition"
    nap()
  end,
  function()
    c:acquire()
    local _ <close> = setmetatable({}, { __close = function() c:release() end })
    c:notify(math.random(2))
  end,
  function(timeout) e:wait(timeout or 0.05) end,
  function() e:set() e:clear() end,
  function(timeout) if not b:wait(timeout or 0.05) then b:reset() end end,
  function(timeout)
    numbers = numbers + 1
    local n = numbers
    if q:put(n, timeout) then was_put[n] = true end
  end,
  function(timeout)
    local n = q:get(timeout)
    if n then was_got[n] = (was_got[n] or 0) + 1 end
  end,
  function(timeout)
    jobs:put(1)
    if jobs:get(timeout) then jobs:task_done() end
  end,
  function() jobs:join(0.01) end,
  function(timeout)
    local key = math.random(2)
    local v = cache:fetch(key, function()
      local _ <close> = enter("fetch " .. key)
      nap()
      return key
    end, { ttl = 0.01, timeout = timeout })
    assert(v == nil or v == key)
  end,
  function(timeout) limiter:acquire(1, timeout) end,
  function() eq(d.x, 1) end,
}
for name, o in pairs(locks) do uses[#uses + 1] = function(timeout) hold(name, o, timeout) end end

local TIMEOUTS = { 0, 0.001, 0.005, 0.03 }
local PASSING = { killed = true, timeout = true, disconnected = true, maybe_applied = true }
local is_over, tasks, failure = false, {}, nil
local function use()
  while not is_over do
    local f, timeout = uses[math.random(#uses)], TIMEOUTS[math.random(8)]
    local good, err
    if math.random(6) == 1 then
      good, err = pcall(co.with_timeout, math.random() * 0.01, f, timeout)
    else
      good, err = pcall(f, timeout)
    end
    if not good and not (type(err) == "table" and PASSING[err.kind]) then failure = failure or err end
    if core.is_over() then return end
  end
end
for i = 1, TASKS do tasks[i] = co.spawn(use) end
local till, next_cut = now() + SECONDS, now() + 0.7
while now() < till do
  for _ = 1, math.random(6) do co.sleep(0) end
  if math.random(3) == 1 then co.sleep(math.random() * 0.01) end
  for _ = 1, math.random(3) do
    local i = math.random(TASKS)
    if tasks[i]:ready() then tasks[i] = co.spawn(use) else tasks[i]:kill() end
  end
  if CUTS and now() > next_cut then
    line "cut"
    next_cut = now() + 0.3 + math.random() * 0.5
  end
end
is_over = true
line "calm"

-- Those that wait for an item or for room get one.
local rest = co.spawn(function()
  local waits = { sure:Queue("q", 4), sure:JoinableQueue "j" }
  while true do
    local n = waits[1]:get(0.05)
    if n then was_got[n] = (was_got[n] or 0) + 1 end
    waits[1]:put(0, 0)
    waits[2]:put(1)
  end
end)
eq(#co.joinall(tasks, 25), TASKS, "tasks that end")
rest:kill()
rest:join()
if failure then error(failure, 0) end

local client = require("mpengine.remote.client").of(m)
local function length(command, key) return tonumber(cli(command, "mp:{default}:" .. key)) end
until_true(function() -- what is given back without a server is given back by tasks of its own
  local busy = sure:Lock "l":locked() or sure:RLock "r":locked() or sure:Condition "c":locked()
    or sure:Semaphore("s", 2):get_value() < 2 or sure:BoundedSemaphore("b", 2):get_value() < 2
    or length("HLEN", "queueh:q") > 0 or length("HLEN", "queuev:q") > 0
  co.sleep(0.01)
  return not busy
end)
for n in function() return (sure:Queue("q", 4):get_nowait()) end do was_got[n] = (was_got[n] or 0) + 1 end
for n in pairs(was_put) do eq(was_got[n], 1, "item " .. n) end
for n, times in pairs(was_got) do eq(n == 0 or times == 1, true, "item " .. n) end
for _, name in ipairs{ "held", "granted", "owned", "fetching", "waits", "opening" } do
  eq(next(client[name]), nil, name)
end
for _, permits in pairs(client.permits) do eq(#permits, 0) end
eq({ client.mail_turn.first, client.connections.commands.turn.first }, {})
for _, list in ipairs{ "lockq:l", "lockq:r:r", "semq:Semaphores", "semq:BoundedSemaphoreb", "cond:c", "eventq:e",
  "barq:bar", "queueg:q", "queuew:q", "queueg:j", "queuej:j", "rateq:li" } do
  eq(length("LLEN", list), 0, list)
end
proxy:kill()
]]

local function storm(seed, cuts)
  support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
  redis.with_server("", ("math.randomseed(%d)\nlocal CUTS = %s\n"):format(seed, cuts) .. STORM, { timeout = 80 })
end

describe("a storm of kills", function()
  it("loses and doubles nothing", function() storm(1, false) end)
  it("loses and doubles nothing over a line that is cut", function() storm(2, true) end)
end)
