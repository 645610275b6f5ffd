-- One list of facts for the objects of mp and of mp.co: each runs once for each family, with the same
-- messages. F is the family, CALL its prefix in the name of a call. What differs is in DIFFERENCES.
local support = require "spec.support"

local FAMILIES = { { name = "mp", module = "mp", call = "" }, { name = "mp.co", module = "mp.co", call = "co." } }

-- The number in the text of an object: an address in mp, a count in mp.co. A put without a value: an
-- error in mp, nil in mp.co. A result comes from a pool, or from a task. One that is not ready has not
-- succeeded: mp raises, as Python does, and mp.co says false, as gevent does.
local DIFFERENCES = {
  mp = [[local NUMBER = "0x%x+"
    local function PUT_NOTHING(q) raises("value expected, got no value", q.put, q) end
    local function RESULT(f, ...) return mp.Pool(1):apply_async(f, { ... }) end
    local function NOT_SUCCESSFUL(r) raises("the result is not ready", r.successful, r) end]],
  ["mp.co"] = [[local NUMBER = "%d+"
    local function PUT_NOTHING(q) eq(q:put(), true) eq(q:get(), nil) end
    local function RESULT(f, ...) local r = co.AsyncResult() co.spawn(f, ...):link(r) return r end
    local function NOT_SUCCESSFUL(r) eq(r:successful(), false) end]],
}

local PRELUDE = [[
  local co, F, CALL, NAME = mp.co, FAMILY, "PREFIX", "TYPE." DIFFERENCE
  local function says(text, f, ...) raises(text, f, ...) end
  local WRONG_TIMEOUTS = { -1, 0/0, "x", {} }
  local TIMEOUT = "(timeout must be a number of seconds, 0 or more)"
]]

for _, family in ipairs(FAMILIES) do
  local function with(code)
    local prelude = PRELUDE:gsub("FAMILY", family.module):gsub("PREFIX", family.call):gsub("TYPE", family.name)
      :gsub("DIFFERENCE", function() return DIFFERENCES[family.name] end)
    support.ok((prelude:gsub("\n%s*", " ")) .. code)
  end

  describe("the objects of " .. family.name, function()
    it("have the name of their type, and show their state", function()
      with[[
        for kind, state in pairs{ Lock = "free", RLock = "free", Semaphore = "value 1", BoundedSemaphore = "value 1",
          Event = "not set", Condition = "lock free", Queue = "0 items", JoinableQueue = "0 items" } do
          local x = F[kind]()
          eq(debug.getmetatable(x).__name, NAME .. kind)
          local pattern = "^" .. (NAME .. kind):gsub("%.", "%%.") .. ": " .. NUMBER .. " %(" .. state .. "%)$"
          assert(tostring(x):find(pattern), tostring(x))
        end]]
    end)

    it("check what they are made of", function()
      with[[
        for kind, what in pairs{ Semaphore = "number of permits", BoundedSemaphore = "number of permits",
          Queue = "maxsize", JoinableQueue = "maxsize" } do
          for _, wrong in ipairs{ -1, 1.5, "x", 1 << 31 } do
            says(("bad argument #1 to '%s%s' (%s must be an integer from 0 to 2147483647, got %s)"):format(CALL, kind,
              what, wrong), F[kind], wrong)
          end
        end
        says(("bad argument #1 to '%sCondition' (%sLock or %sRLock expected, got number)"):format(CALL, NAME, NAME),
          F.Condition, 1)]]
    end)

    it("check their timeouts and their self", function()
      with[[
        for kind, method in pairs{ Lock = "acquire", RLock = "acquire", Semaphore = "acquire",
          BoundedSemaphore = "acquire", Event = "wait", Condition = "acquire", Queue = "get",
          JoinableQueue = "join" } do
          local x, call = F[kind](), CALL .. kind .. ":" .. method
          for _, wrong in ipairs(WRONG_TIMEOUTS) do
            says("bad argument #1 to '" .. call .. "' " .. TIMEOUT, x[method], x, wrong)
          end
          for _, wrong in ipairs{ 5, {}, "x" } do
            says("calling '" .. call .. "' on bad self (", x[method], wrong)
          end
          says("calling '" .. call .. "' on bad self (", x[method], nil)
        end]]
    end)

    it("give nil and a reason when the time is over, and true when there is nothing to wait for", function()
      with[[
        for _, kind in ipairs{ "Lock", "Semaphore", "BoundedSemaphore" } do
          local x = F[kind]()
          eq(table.pack(x:acquire(0)), table.pack(true))
          for _, seconds in ipairs{ 0, 0.01 } do eq(table.pack(x:acquire(seconds)), table.pack(nil, "timeout")) end
          x:release()
          do local g <close> = x:guard() assert(g) eq(x:locked(), true) end
          eq(x:locked(), false)
          eq(x:with(function(...) return ... end, 7), 7)
        end
        local e, q, c = F.Event(), F.Queue(1), F.Condition()
        eq(table.pack(e:wait(0)), table.pack(nil, "timeout"))
        e:set() eq(e:wait(), true)
        eq(table.pack(q:get(0)), table.pack(nil, "empty"))
        eq(q:put(1), true) eq(table.pack(q:put(2, 0)), table.pack(nil, "full"))
        c:acquire() eq(table.pack(c:wait(0)), table.pack(nil, "timeout"))
        eq(table.pack(c:wait_for(function() return false end, 0)), table.pack(nil, "timeout")) c:release()]]
    end)

    it("say the same for a call at the wrong time", function()
      with[[
        local function misuse(kind, method, words)
          local x = F[kind]()
          says(CALL .. kind .. ":" .. method .. ": " .. words, x[method], x, method == "wait_for" and print or nil)
        end
        misuse("Lock", "release", "the lock is not held")
        misuse("RLock", "release", "the lock is not held by this task")
        misuse("BoundedSemaphore", "release", "called too many times: it has all its permits already")
        misuse("Condition", "release", "the lock is not held by this task")
        for _, method in ipairs{ "wait", "notify", "notify_all", "wait_for" } do
          misuse("Condition", method, "the condition's lock is not held by this task")
        end
        misuse("JoinableQueue", "task_done", "called more often than there were items (one call per item expected)")
        misuse("Queue", "task_done", "the queue is not a JoinableQueue")
        misuse("Queue", "join", "the queue is not a JoinableQueue")
        local q = F.Queue()
        q:put(nil)
        says(CALL .. "Queue:iter: a nil item would end the loop", function() for _ in q:iter() do end end)
        local b = F.BoundedSemaphore(0)
        says("it has all its permits already", b.release, b)]]
    end)

    it("close a queue: what it has, then nil, closed; a second close is harmless", function()
      with[[
        for _, kind in ipairs{ "Queue", "JoinableQueue", "SimpleQueue" } do
          local q = F[kind]()
          PUT_NOTHING(q)
          q:put("last")
          eq(q:is_closed(), false)
          q:close() q:close()
          eq(q:is_closed(), true)
          eq(table.pack(q:put(1)), table.pack(nil, "closed"))
          eq(q:get(), "last")
          eq(table.pack(q:get()), table.pack(nil, "closed"))
        end]]
    end)

    it("serve tasks in the order of arrival, and pass by one that was killed", function()
      with[[
        for _, kind in ipairs{ "Lock", "RLock", "Semaphore", "BoundedSemaphore" } do
          local x, order, tasks = F[kind](), {}, {}
          x:acquire()
          for i = 1, 4 do
            tasks[i] = co.spawn(function() x:acquire() order[#order + 1] = i x:release() end)
            co.sleep(0)
          end
          tasks[2]:kill()
          x:release()
          co.joinall(tasks)
          eq(order, { 1, 3, 4 })
          eq(x:acquire(0), true)
        end]]
    end)

    it("give a result: not ready, then its values or its error, to all that ask", function()
      with[[
        local go = mp.Event()
        local r = RESULT(function(a, b) go:wait() return a, b, nil end, "x", 7)
        eq(r:ready(), false)
        NOT_SUCCESSFUL(r)
        eq(table.pack(r:wait(0)), table.pack(nil, "timeout"))
        eq(table.pack(r:get(0.01)), table.pack(nil, "timeout"))
        local askers = {}
        for i = 1, 3 do askers[i] = co.spawn(function() return r:get() end) end
        go:set()
        for i = 1, 3 do eq(table.pack(askers[i]:get()), table.pack("x", 7, nil)) end
        eq({ r:wait(), r:ready(), r:successful() }, { true, true, true })
        local bad = RESULT(function() error({ code = 5 }, 0) end)
        eq(bad:wait(), true)
        eq({ bad:ready(), bad:successful() }, { true, false })
        eq(pcall(bad.get, bad), false)
        says("(timeout must be a number of seconds, 0 or more)", r.get, r, -1)
        says("on bad self", r.get, 1)]]
    end)

    it("are waited for together, by both waits", function()
      with[[
        for _, wait in ipairs{ mp.wait, co.wait } do
          local q, e, l, s, go = F.Queue(), F.Event(), F.Lock(), F.Semaphore(0), mp.Event()
          l:acquire()
          local r = RESULT(function() go:wait() return 1 end)
          local list = { q, e, l, s, r }
          eq(#wait(list, 0), 0)
          local changes = { function() q:put(1) end, function() e:set() end, function() l:release() end,
            function() s:release() end, function() go:set() end }
          for i, change in ipairs(changes) do
            local waiter = co.spawn(function() return wait({ list[i] }, 10) end)
            co.sleep(0)
            change()
            local ready = waiter:get()
            eq(#ready, 1)
            assert(ready[1] == list[i])
          end
          eq(#wait(list, 10), 5)
        end]]
    end)
  end)
end
