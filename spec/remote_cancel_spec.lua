-- Managers of a URL: tasks that are killed, or have their deadline, while they are given something.
local support = require "spec.support"
local redis = require "spec.support.redis"

-- `m` is over a line that can be made bad, `sure` over a good one. With this lease no wait asks again by itself, and no
-- owner is judged dead, within the limit of a spec.
local HEAD = redis.LINE .. [[
local m, sure = mp.Manager(LINE, { lease = 60 }), open{ lease = 60 }
local function words(...) return (cli(...):gsub("%s+$", "")) end
local function key(name) return "mp:{default}:" .. name end
-- Until a list of waiting tasks has so many.
local function until_waiting(list, n)
  until_true(function() return words("LLEN", key(list)) == tostring(n) end)
end
-- How each kind is taken and given by a handle, and the list of tasks that wait.
local kinds = {
  { class = "Lock", list = "lockq:x", take = "acquire", give = "release" },
  { class = "RLock", list = "lockq:r:x", take = "acquire", give = "release" },
  { class = "Semaphore", list = "semq:Semaphorex", take = "acquire", give = "release" },
  { class = "BoundedSemaphore", list = "semq:BoundedSemaphorex", take = "acquire", give = "release" },
  { class = "Queue", list = "queueg:x", take = "get", give = "put" },
}
local function handle(manager, kind) return manager[kind.class](manager, "x") end
-- A task that waits at a condition, and says in its close handler whether it has the lock: { task, had }.
local function waiter_at(c)
  local waiter = {}
  waiter.task = co.spawn(function()
    c:acquire()
    local _ <close> = setmetatable({}, { __close = function()
      waiter.had = c:is_mine()
      c:release()
    end })
    c:wait()
  end)
  return waiter
end
local function take(kind, o, timeout) return o[kind.take](o, timeout) end
local function give(kind, o) return o[kind.give](o, kind.give == "put" and 7 or nil) end
]]

local function ok(code)
  support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
  redis.with_server("", HEAD .. code .. "\nproxy:kill()", { timeout = 60 })
end

describe("what is given to a task that is killed", function()
  it("goes to the next one, when it was given as the task left at its deadline", function()
    ok [[
      for _, pause in ipairs{ 0, 2.5 } do -- a killed task has two seconds to give something back
        local tasks = {}
        for i, kind in ipairs(kinds) do
          if kind.class ~= "Queue" then take(kind, handle(sure, kind)) end
          tasks[i] = co.spawn(take, kind, handle(m, kind), 0.5)
          until_waiting(kind.list, 1)
        end
        line "hold"
        co.sleep(0.7)
        for _, kind in ipairs(kinds) do
          give(kind, handle(sure, kind))
          until_waiting(kind.list, 0)
        end
        co.killall(tasks)
        co.sleep(pause)
        line "calm"
        co.joinall(tasks)
        for _, kind in ipairs(kinds) do
          assert(take(kind, handle(sure, kind), 10), kind.class)
          if kind.class ~= "Queue" then give(kind, handle(sure, kind)) end
        end
      end
    ]]
  end)

  it("goes to the next one, when the server was away for longer than the task could wait", function()
    ok [[
      local tasks = {}
      for i, kind in ipairs(kinds) do
        local o, s = handle(m, kind), handle(sure, kind)
        if kind.class ~= "Queue" then take(kind, s) end
        tasks[i] = co.spawn(take, kind, o)
        until_waiting(kind.list, 1)
      end
      line "hold"
      for i, kind in ipairs(kinds) do
        give(kind, handle(sure, kind))
        until_waiting(kind.list, 0)
        tasks[i]:kill()
      end
      co.joinall(tasks)
      line "calm"
      for _, kind in ipairs(kinds) do assert(take(kind, handle(sure, kind), 10), kind.class) end
    ]]
  end)

  it("goes to the next one, when it is released in a close handler without a server", function()
    ok [[
      local tasks, all_have = {}, co.Semaphore(0)
      for i, kind in ipairs(kinds) do
        if kind.class ~= "Queue" then
          tasks[i] = co.spawn(function()
            local o = handle(m, kind)
            take(kind, o)
            local _ <close> = setmetatable({}, { __close = function() give(kind, o) end })
            all_have:release()
            co.Event():wait()
          end)
        end
      end
      for _ = 1, #tasks do all_have:acquire() end
      line "hold"
      co.killall(tasks)
      co.joinall(tasks)
      line "calm"
      for i = 1, #tasks do assert(take(kinds[i], handle(sure, kinds[i]), 10), kinds[i].class) end
    ]]
  end)

  it("is lost at no turn of its loop, items of a queue", function()
    ok [[
      local q = m:Queue "q"
      for round = 0, 39 do
        local got, tasks = {}, {}
        for i = 1, 6 do q:put(i) end
        for i = 1, 6 do tasks[i] = co.spawn(function() got[q:get()] = true end) end
        for _ = 1, round % 10 do co.sleep(0) end
        for i = 1, 6, round // 10 % 2 + 1 do tasks[i]:kill() end
        co.joinall(tasks)
        for i in function() return q:get_nowait() end do
          eq(got[i], nil)
          got[i] = true
        end
        eq(#got, 6, "round " .. round)
      end
      eq(words("HLEN", key "queueh:q"), "0")
    ]]
  end)

  it("leaves nothing at a barrier", function()
    ok [[
      local b = m:Barrier("b", 3)
      for round = 0, 19 do
        local tasks = {}
        for i = 1, 3 do tasks[i] = co.spawn(b.wait, b, 5) end
        for _ = 1, round % 10 do co.sleep(0) end
        tasks[round % 3 + 1]:kill()
        co.joinall(tasks)
        b:reset()
      end
      eq(b.n_waiting, 0)
      eq(words("HLEN", key "bard:b"), "0")
    ]]
  end)
end)

describe("the lock of a condition", function()
  it("is kept by a task that is killed before its wait has begun", function()
    ok [[
      for turns = 0, 8 do
        local p = P(function() -- the script of the wait is not on the server yet
          local c, ready = m:Condition("c" .. turns), co.Event()
          local t = co.spawn(function()
            c:acquire()
            local _ <close> = setmetatable({}, { __close = function() c:release() end })
            ready:set()
            c:wait()
          end)
          ready:wait()
          for _ = 1, turns do co.sleep(0) end
          t:kill()
          t:join()
          eq(c:acquire(10), true)
        end)
        all{ p }
        if turns == 8 then cli("SCRIPT", "FLUSH") end
      end
    ]]
  end)

  it("is acquired again by a task that is killed without a server, before the kill goes on", function()
    ok [[
      for _, is_notified in ipairs{ false, true } do
        local name = "c" .. tostring(is_notified)
        local s, waiter = sure:Condition(name), waiter_at(m:Condition(name))
        until_waiting("cond:" .. name, 1)
        line "hold"
        if is_notified then
          s:acquire()
          s:notify()
          s:release()
        end
        waiter.task:kill()
        co.sleep(2.5)
        line "calm"
        waiter.task:join()
        eq(waiter.had, true)
        eq(s:acquire(10), true)
      end
    ]]
  end)

  it("is acquired again by a killed task, however long it is held", function()
    ok [[
      local s, waiter = sure:Condition "c", waiter_at(m:Condition "c")
      until_waiting("cond:c", 1)
      s:acquire()
      waiter.task:kill()
      co.sleep(2.5)
      eq(waiter.task:ready(), false)
      s:release()
      waiter.task:join()
      eq(waiter.had, true)
      eq(s:acquire(10), true)
    ]]
  end)
end)

describe("a task that leaves at its deadline, and whose answer is lost,", function()
  it("has a timeout at an event that was not set", function()
    ok [[
      local e = m:Event "e"
      e:wait(0.01) -- the server has the scripts
      for _ = 1, 3 do
        local t = co.spawn(function() return table.pack(e:wait(0.4)) end)
        until_waiting("eventq:e", 1)
        line "every 1"
        until_waiting("eventq:e", 0)
        line "calm"
        eq(t:get(), { n = 2, nil, "timeout" })
      end
      eq(e:wait(0.01), nil)
      assert(tonumber(words("HLEN", (words("KEYS", key "once:*")))) <= 1)
    ]]
  end)

  it("has a timeout at a condition that was not notified", function()
    ok [[
      local c = m:Condition "c"
      c:acquire()
      c:wait(0.01) -- the server has the scripts
      c:release()
      local t = co.spawn(function()
        c:acquire()
        return table.pack(c:wait(0.4))
      end)
      until_waiting("cond:c", 1)
      line "every 1"
      until_waiting("cond:c", 0)
      line "calm"
      eq(t:get(), { n = 2, nil, "timeout" })
    ]]
  end)

  it("has put nothing into a full queue", function()
    ok [[
      local q, s = m:Queue("q", 1), sure:Queue("q", 1)
      s:put(0)
      q:put(0, 0.01) -- the server has the scripts
      local t = co.spawn(function() return table.pack(q:put(1, 0.4)) end)
      until_waiting("queuew:q", 1)
      line "every 1"
      until_waiting("queuew:q", 0)
      line "calm"
      eq(t:get(), { n = 2, nil, "full" })
      eq(s:get(), 0)
      eq(s:get_nowait(), nil)
    ]]
  end)
end)
