local support = require "spec.support"
local ok, run, ends = support.ok, support.run, support.ends

-- Every scenario here uses mp.co.
local function co(code, opts) return ok("local co = require 'mpengine'.co " .. code, opts or { timeout = 15 }) end
local function co_run(code) return run("local co = require 'mpengine'.co " .. code, { timeout = 15 }) end

describe("a time limit", function()
  it("ends a loop of Lua in a loop of pcall", function()
    co[[
      eq(table.pack(co.with_timeout(0.1, function()
        while true do pcall(function() while true do end end) end
      end)), table.pack(nil, "timeout"))]]
  end)

  it("ends pcalls in pcalls, each of which may swallow it once", function()
    co[[
      eq(table.pack(co.with_timeout(0.02, function()
        pcall(function() while true do pcall(function() pcall(co.sleep, 60) end) end end)
        return "got out"
      end)), table.pack(nil, "timeout"))]]
  end)

  it("ends a loop of resumed coroutines, whether they wait or compute", function()
    co[[
      eq(table.pack(co.with_timeout(0.02, function()
        while true do coroutine.resume(coroutine.create(function() co.sleep(60) end)) end
      end)), table.pack(nil, "timeout"))
      eq(table.pack(co.with_timeout(0.02, function()
        coroutine.wrap(function() while true do end end)()
      end)), table.pack(nil, "timeout"))]]
  end)

  it("ends no code that has just been given something", function()
    co[[
      local q, got = co.Queue(), 0
      local function spend(seconds)
        local began = os.clock()
        repeat until os.clock() - began >= seconds
      end
      local function getter()
        co.with_timeout(0.001, function()
          local item = q:get()
          spend(0.0005)
          got = got + item
        end)
      end
      for i = 1, 500 do -- a tick of the processor time comes in one of twenty
        local t = co.spawn(getter)
        co.sleep(0)
        spend(0.0012)
        q:put(1)
        t:join()
        got = got + (q:get(0) or 0)
        eq(got, i)
      end]]
  end)

  it("leaves a condition with its lock, at whatever moment it comes", function()
    co[[
      local c = mp.Condition()
      local function wait()
        c:acquire()
        local _ <close> = setmetatable({}, { __close = function() c:release() end })
        c:wait()
      end
      for i = 1, 20000 do -- some come between the release of the lock and the wait
        co.with_timeout(i % 100 * 1e-7, wait)
        eq(c:locked(), false)
      end
      local t = co.spawn(wait) -- and no notification is for a wait that has ended so
      co.sleep(0)
      c:acquire()
      c:notify()
      c:release()
      eq(t:join(5), true)]]
  end)

  it("leaves no hook behind, and the function after it alone", function()
    co[[
      co.with_timeout(0.02, function() while true do end end)
      for _ = 1, 1000 do end
      eq(debug.gethook(), nil)
      eq(co.spawn(debug.gethook):get(), nil)
      co.sleep(0.01)]]
  end)

  it("gives the script its own hook back", function()
    co[[
      local lines = 0
      local function hook() lines = lines + 1 end
      local function counts()
        local before = lines
        local x = 1
        local y = x + 1
        return lines > before and debug.gethook() == hook
      end
      debug.sethook(hook, "l")
      eq(co.with_timeout(0.02, function() while true do end end), nil)
      assert(counts())
      co.with_timeout(0.02, function() while true do pcall(co.sleep, 1) end end)
      assert(counts())
      local t = co.spawn(function()
        assert(debug.gethook() == nil) -- a hook is of one coroutine
        debug.sethook(hook, "l")
        co.with_timeout(0.02, function() coroutine.wrap(function() while true do end end)() end)
        return counts()
      end)
      eq(t:get(), true)
      assert(counts())
      debug.sethook()
      eq(co.spawn(debug.gethook):get(), nil)]]
  end)

  it("of 0 lets what does not wait return", function()
    co[[
      eq(co.with_timeout(0, function() return 7 end), 7)
      eq(table.pack(co.with_timeout(0, co.sleep, 0)), table.pack(nil, "timeout"))]]
  end)

  it("stays in force after an inner limit that was not reached", function()
    co[[
      eq(table.pack(co.with_timeout(60, function()
        local v, why = co.with_timeout(0.01, co.sleep, 60)
        co.sleep(0.01)
        return v, why, "outer"
      end)), table.pack(nil, "timeout", "outer"))]]
  end)

  it("does not apply to a task that resumes a generator which yielded out of it", function()
    co[[
      local g = coroutine.wrap(function()
        coroutine.yield((select(2, co.with_timeout(0.01, function() coroutine.yield(1) co.sleep(60) end))))
      end)
      eq(g(), 1)
      co.sleep(0.03)
      eq(g(), "timeout")]]
  end)

  it("checks its arguments", function()
    co[[
      raises({ "with_timeout", "seconds" }, co.with_timeout, -1, print)
      raises({ "with_timeout", "seconds" }, co.with_timeout, "x", print)
      raises({ "with_timeout", "function" }, co.with_timeout, 1)]]
  end)
end)

describe("a kill", function()
  it("ends a task that swallowed it and computes on", function()
    co[[
      local t = co.spawn(function() pcall(co.sleep, 60) while true do end end)
      co.sleep(0)
      t:kill()
      eq(t:join(10), true)
      eq(table.pack(t:get()), table.pack(nil, "killed"))]]
  end)

  it("of the task itself is met at its next wait", function()
    co[[
      local reached
      local t = co.spawn(function() co.current():kill("me") reached = true co.sleep(0) reached = "beyond" end)
      eq(table.pack(t:get()), table.pack(nil, "killed"))
      eq(reached, true)]]
  end)

  it("in a wait of a close handler that runs already gives it some time", function()
    co[[
      local done
      local t = co.spawn(function()
        local x <close> = setmetatable({}, { __close = function() co.sleep(0.05) done = true end })
      end)
      co.sleep(0.01)
      t:kill()
      t:join()
      eq(done, true)]]
  end)

  it("does not hide the error that a close handler raises meanwhile", function()
    support.since("5.4.3", "drops such an error itself, in a coroutine that has yielded")
    local r = co_run[[
      local function closing(f) return setmetatable({}, { __close = f }) end
      local function work()
        local c <close> = closing(function()
          error("in the handler")
        end)
        co.sleep(60)
      end
      local heard, unheard = co.spawn(work), co.spawn(work)
      co.sleep(0)
      heard:kill()
      raises("script.lua:4: in the handler", heard.get, heard)
      eq(heard:successful(), false)
      unheard:kill()
      unheard.name = "unheard"
      co.sleep(0.01)]]
    assert.equal(0, r.status, r.stderr)
    assert.truthy(r.stderr:find("unheard: .*script.lua:4: in the handler\nstack traceback:\n.*script.lua:4:"), r.stderr)
    assert.falsy(r.stderr:find("Task-", 1, true), r.stderr)
  end)

  it("lets handlers of a hundred tasks wait", function()
    support.since("5.4.3", "cannot yield in a close handler, and 60 waits nest at most")
    co[[
      local n, tasks = 0, {}
      local closing = { __close = function() co.sleep(0.01) n = n + 1 end }
      for i = 1, 100 do
        tasks[i] = co.spawn(function() local x <close> = setmetatable({}, closing) co.sleep(60) end)
      end
      co.sleep(0)
      co.killall(tasks)
      co.joinall(tasks)
      eq(n, 100)]]
  end)

  it("does not withdraw what was handed over before it", function()
    co[[
      for _ = 1, 50 do
        local q, s = co.Queue(), co.Semaphore(0)
        local item, permit
        local a = co.spawn(function() item = q:get() end)
        local b = co.spawn(function() permit = s:acquire() end)
        co.sleep(0)
        q:put("x") s:release()
        a:kill() b:kill()
        co.joinall{ a, b }
        eq((item and 1 or 0) + q:qsize(), 1)
        eq((permit and 1 or 0) + s:get_value(), 1)
      end]]
  end)

  it("in a wait on a co.Condition reacquires the lock first", function()
    co[[
      local l = co.Lock()
      local c, held = co.Condition(l)
      local t = co.spawn(function()
        c:acquire()
        local x <close> = setmetatable({}, { __close = function() held = l:locked() c:release() end })
        c:wait()
      end)
      co.sleep(0)
      c:acquire()
      t:kill()
      co.sleep(0.01)
      eq(t:ready(), false)
      c:release()
      t:join()
      eq(held, true)
      eq(l:locked(), false)]]
  end)
end)

-- How a task can be cancelled while it is in f(...): the function, and what it does then.
local CANCELS = [[
  local cancels = {
    kill = function(f, ...) local t = co.spawn(f, ...) co.sleep(0.001) t:kill() t:join() return t end,
    limit = function(f, ...) return co.with_timeout(0.001, f, ...) end,
    limit_of_a_caller = function(f, ...)
      return co.with_timeout(0.001, function(...) return co.with_timeout(60, f, ...) end, ...)
    end,
    scope = function(f, ...)
      local args = table.pack(...)
      local ok, err = pcall(co.scope, function(s)
        s:spawn(f, table.unpack(args, 1, args.n))
        co.sleep(0.001)
        error "the scope fails"
      end)
      assert(not ok and tostring(err):find "the scope fails", err)
    end,
    body_of_a_scope = function(f, ...)
      local args = table.pack(...)
      pcall(co.scope, function(s)
        s:spawn(function() co.sleep(0.001) error "a task fails" end)
        f(table.unpack(args, 1, args.n))
      end)
    end,
    group = function(f, ...) local g = co.Group() g:spawn(f, ...) co.sleep(0.001) g:kill() g:join() end,
  } ]]

describe("code after a pcall that caught a cancellation", function()
  local function each(code) co(CANCELS .. "for name, cancel in pairs(cancels) do " .. code .. " end") end

  it("runs, and releases what was acquired", function()
    each[[
      local lock, permits, held = mp.Lock(), co.Semaphore(2), mp.RLock()
      cancel(function()
        lock:acquire() permits:acquire() held:acquire()
        local ok, err = pcall(co.sleep, 60)
        lock:release() permits:release() held:release()
        if not ok then error(err, 0) end
      end)
      assert(not lock:locked() and permits:get_value() == 2 and not held:locked(), name)]]
  end)

  it("runs wherever the wait is: in a coroutine, a metamethod, a comparator, a module, an iterator", function()
    each[[
      local q = mp.Queue()
      local waits = {
        coroutine = function() coroutine.wrap(function() q:get() end)() end,
        metamethod = function() return setmetatable({}, { __index = function() q:get() end }).x end,
        comparator = function() table.sort({ 2, 1 }, function(a, b) co.sleep(0.01) q:get() return a < b end) end,
        module = function()
          package.preload.waiter = function() q:get() end
          require "waiter"
        end,
        iterator = function() for _ in q:iter() do end end,
        callback = function() string.gsub("x", ".", function() q:get() end) end,
      }
      for where, wait in pairs(waits) do
        local after
        cancel(function()
          local ok = pcall(wait)
          after = not ok
        end)
        assert(after, name .. " " .. where)
      end]]
  end)

  it("gets it again at each later wait, whatever the wait is for", function()
    each[[
      local met, e, c, r = 0, mp.Event(), mp.Condition(), co.AsyncResult()
      cancel(function()
        pcall(co.sleep, 60)
        for _, wait in ipairs {
          function() co.sleep(0) end, function() co.sleep(60) end, function() e:wait() end, function() r:get() end,
          function() mp.Queue():get() end, function() co.Queue():get() end, function() c:acquire() c:wait() end,
          function() co.spawn(co.sleep, 0.001):join() end, function() mp.wait({ e }) end, function() co.wait { r } end,
          function() co.joinall { co.spawn(co.sleep, 0.001) } end,
          function() mp.subprocess.run { "true" } end,
        } do
          if not pcall(wait) then met = met + 1 end
        end
      end)
      eq(met, 12, name)]]
  end)

  it("computes for half a second at most, however it catches what ends it", function()
    co(CANCELS .. [[
      for _, name in ipairs { "kill", "limit" } do
        local began
        cancels[name](function()
          pcall(co.sleep, 60)
          began = os.clock()
          while os.clock() - began < 0.25 do end
          began = os.clock()
          while true do pcall(function() while true do end end) end
        end)
        assert(os.clock() - began < 1, name)
      end]])
  end)

  it("is ended after a hundred, also in coroutines and between close variables", function()
    each[[
      local loops = {
        function(count) while true do count() pcall(co.sleep, 60) end end,
        function(count) while true do pcall(function() while true do count() pcall(co.sleep, 60) end end) end end,
        function(count)
          while true do coroutine.resume(coroutine.create(function() count() co.sleep(60) end)) end
        end,
        function(count)
          while true do
            pcall(function()
              local _ <close> = setmetatable({}, { __close = function() end })
              count()
              co.sleep(60)
            end)
          end
        end,
        function(count) while true do count() xpcall(co.sleep, function(e) return e end, 60) end end,
      }
      for i, loop in ipairs(loops) do
        local n = 0
        cancel(function() loop(function() n = n + 1 end) end)
        assert(n >= 100 and n < 110, name .. " " .. i .. ": " .. n)
      end]]
  end)
end)

describe("a task that caught a kill", function()
  it("and returns without another wait has returned, with its values", function()
    co[[
      local t = co.spawn(function() local ok, err = pcall(co.sleep, 60) return ok, err.kind, err.reason end)
      co.sleep(0.001)
      t:kill("enough")
      eq(table.pack(t:get()), table.pack(false, "killed", "enough"))
      eq(t:successful(), true)
      eq(table.pack(co.with_timeout(0.001, function() return pcall(co.sleep, 60), 7 end)), table.pack(false, 7))]]
  end)

  it("may wait in its close variables, together for two seconds", function()
    co[[
      local released
      local t = co.spawn(function()
        pcall(co.sleep, 60)
        do
          local _ <close> = setmetatable({}, { __close = function() co.sleep(0.01) released = true end })
        end
        return "done"
      end)
      co.sleep(0.001)
      t:kill()
      eq(t:get(), "done")
      assert(released)]]
  end)

  it("gives the script its own hook back when it was ended", function()
    co[[
      local hook = function() end
      debug.sethook(hook, "l")
      eq(co.with_timeout(0.001, function() while true do pcall(co.sleep, 60) end end), nil)
      for _ = 1, 10 do end
      assert(debug.gethook() == hook)]]
  end)

  it("in a deep recursion is ended, too", function()
    co(([[
      local bottom = co.Event()
      local function deep(n)
        if n > 0 then return (deep(n - 1)) end
        bottom:set()
        return pcall(co.sleep, 60)
      end
      local t = co.spawn(deep, %d)
      bottom:wait()
      local began = os.clock()
      t:kill()
      eq(t:get(), false)
      assert(os.clock() - began < 3)]]):format(support.deep))
  end)
end)

describe("a scope in a scope", function()
  it("is cancelled with the outer one, and its tasks before it ends", function()
    co[[
      local closed = 0
      raises("the reason", co.scope, function(s)
        s:spawn(co.scope, function(inner)
          inner:spawn(function()
            local x <close> = setmetatable({}, { __close = function() co.sleep(0.01) closed = closed + 1 end })
            co.sleep(60)
          end)
          co.sleep(60)
        end)
        co.sleep(0.01)
        error("the reason")
      end)
      eq(closed, 1)]]
  end)

  it("gives the results of its function, and no more tasks after its end", function()
    co[[
      local ended
      eq(table.pack(co.scope(function(s) ended = s s:spawn(co.sleep, 0.01) return 1, nil end)), table.pack(1, nil))
      raises("ended", ended.spawn, ended, print)]]
  end)

  it("raises the same value, and shows both tracebacks when it is not caught", function()
    co[[
      local e = { code = 1 }
      local good, err = pcall(co.scope, function(s) s:spawn(error, e) co.sleep(60) end)
      assert(err == e)]]
    local r = co_run[[
      local function child() co.sleep(0) error("the reason") end
      co.scope(function(s)
        s:spawn(child)
        co.sleep(60)
      end)]]
    assert.equal(1, r.status)
    for _, place in ipairs{ "script.lua:1: the reason", "script.lua:2: in ", "script.lua:3: in " } do
      if support.mode == "command" or not place:find ": in" then
        assert.truthy(r.stderr:find(place, 1, true), r.stderr)
      end
    end
  end)
end)

describe("a coroutine", function()
  it("of a waiting task cannot be resumed or closed from outside; its status is normal", function()
    co[[
      local c
      local t = co.spawn(function() c = coroutine.running() co.sleep(0.01) return "slept" end)
      co.sleep(0)
      eq(coroutine.resume(c), false)
      eq(pcall(coroutine.close, c), false)
      eq(coroutine.status(c), "normal")
      eq(t:get(), "slept")
      eq(coroutine.status(c), "dead")
      eq(coroutine.resume(c), false)]]
  end)

  it("may be resumed by one task after the other, when it yields between", function()
    co[[
      local g = coroutine.wrap(function() for i = 1, 3 do co.sleep(0.001) coroutine.yield(i) end end)
      eq(g(), 1)
      eq(co.spawn(g):get(), 2)
      eq(g(), 3)]]
  end)

  it("is not required: waits work in sort comparators of several tasks, and in finalizers", function()
    co[[
      local tasks = {}
      for i = 1, 10 do
        tasks[i] = co.spawn(function()
          local list = { 5, 3, 4, 1, 2 }
          table.sort(list, function(a, b) co.sleep(0.0002) return a < b end)
          return table.concat(list)
        end)
      end
      for i = 1, 10 do eq(tasks[i]:get(), "12345") end
      local finalized
      setmetatable({}, { __gc = function() co.sleep(0.001) finalized = true end })
      collectgarbage() collectgarbage()
      eq(finalized, true)]]
  end)
end)

describe("waits for several", function()
  it("mix tasks with objects of co and of mp, in the order in which they become ready", function()
    co[[
      local q, e, cq = mp.Queue(), mp.Event(), co.Queue()
      local t = co.spawn(co.sleep, 0.04)
      co.spawn(function() co.sleep(0.01) q:put(1) co.sleep(0.06) e:set() co.sleep(0.03) cq:put(1) end)
      local done = co.wait{ cq, e, q, t }
      eq(#done, 4)
      assert(done[1] == q and done[2] == t and done[3] == e and done[4] == cq)
      assert(mp.wait{ cq }[1] == cq)
      eq(cq:qsize(), 1)]]
  end)

  it("give joined tasks in the order in which they ended", function()
    co[[
      local tasks, order = {}, {}
      for i, s in ipairs{ 0.2, 0.01, 0.1 } do tasks[i] = co.spawn(function() co.sleep(s) return i end) end
      for _, t in ipairs(co.joinall(tasks)) do order[#order + 1] = t.value end
      eq(order, { 2, 3, 1 })]]
  end)
end)

describe("co.Pool", function()
  it("maps as mp.Pool does", function()
    co[[
      local p = co.Pool(3)
      eq(p:starmap(function(a, b) return a * b end, { { 1, 2 }, { 3, 4 } }), { 2, 12 })
      local got = {}
      for i, v in p:imap(function(x) co.sleep((4 - x) * 0.002) return x * x end, { 1, 2, 3 }) do got[i] = v end
      eq(got, { 1, 4, 9 })
      local order = {}
      for i in p:imap_unordered(function(x) co.sleep((4 - x) * 0.03) end, { 1, 2, 3 }) do order[#order + 1] = i end
      eq(order, { 3, 2, 1 })
      eq(p:map_async(function(x) return x + 1 end, { 1, 2 }):get(), { 2, 3 })
      eq(p:apply(function(a, b) return a + b end, { 1, 2 }), 3)
      eq(p:apply_async(function(a) return a end, { 9 }):get(), 9)]]
  end)

  it("takes an endless iterator and keeps a bounded number of items in flight", function()
    co[[
      local p, n, seen = co.Pool(3), 0, 0
      for _ in p:imap(function(x) return x end, function() n = n + 1 return n end) do
        seen = seen + 1
        if seen == 50 then break end
      end
      assert(n < 60, n)]]
  end)

  it("raises the first error and ends the other items", function()
    co[[
      local p, went_on = co.Pool(3)
      raises("the reason", p.map, p, function(x)
        if x == 2 then error("the reason") end
        co.sleep(60)
        went_on = true
      end, { 1, 2, 3 })
      eq(went_on, nil)
      eq(p:join(), true)
      local _, err = pcall(p.map, p, function() co.sleep(60) end, { 1 }, { timeout = 0.01 })
      eq(err.kind, "timeout")]]
  end)
end)

describe("what a program reports", function()
  it("about a task that does not wait, when the watchdog is on", function()
    local r = co_run[[
      co.watchdog(0.05)
      local t = co.spawn(function()
        local from = os.clock()
        while os.clock() < from + 0.2 do end
      end)
      t.name = "the busy one"
      t:join()
      print "end"]]
    assert.equal("end\n", r.stdout)
    assert.truthy(r.stderr:find("the busy one", 1, true), r.stderr)
    assert.truthy(r.stderr:find("script.lua:4", 1, true), r.stderr)
  end)

  it("at a deadlock: objects of co, and the lines of the spawns too", function()
    ends(1, { "can never come", "script.lua:2", "script.lua:4", "script.lua:2 waits" }, [[
      local co = mp.co
      local t = co.spawn(function() co.Queue():get() end)

      co.Event():wait()]])
  end)

  it("at a deadlock: what each task waits for, by its name", function()
    local r = co_run[[
      local e, l, q, s, t = co.Event(), co.Lock(), co.Queue(1), co.Semaphore(0), nil
      l:acquire()
      q:put(1)
      t = co.spawn(function() l:acquire() end)
      co.spawn(function() q:put(2) end)
      co.spawn(function() s:acquire() end)
      co.spawn(function() co.wait{ e } end)
      co.spawn(function() co.wait{ co.Event(), q, co.Queue() } end)
      co.spawn(function() t:join() end)
      co.spawn(function() co.joinall{ t } end)
      co.spawn(function() co.scope(function(scope) scope:spawn(function() co.AsyncResult():get() end) end) end)
      co.spawn(function() coroutine.wrap(function() local c = co.Condition() c:with(function() c:wait() end) end)() end)
      e:wait()]]
    assert.equal(1, r.status)
    local without_folders = r.stderr:gsub("/[^%s:]*/", "")
    for _, text in ipairs{ "main waits for mp.co.Event: 1 (not set) at script.lua:13",
      "mp.co.Lock: 2 (held) at script.lua:4",
      "mp.co.Queue: 3 (1 of 1 items) at script.lua:5", "mp.co.Semaphore: 4 (value 0) at script.lua:6",
      "mp.co.Event: 1 (not set) at script.lua:7", "an answer from 2 things at script.lua:8",
      "mp.Task: script.lua:4 (waiting) at script.lua:9", "mp.Task: script.lua:4 (waiting) at script.lua:10",
      "mp.Scope: 1 task at script.lua:11", "mp.co.AsyncResult: 6 (not ready) at script.lua:11",
      "mp.co.Condition: 5 (lock free) at script.lua:12" } do
      assert.truthy(without_folders:find(text, 1, true), text .. " is not in\n" .. r.stderr)
    end
    assert.falsy(r.stderr:find("main.lua", 1, true), r.stderr) -- the lines of the library say nothing to a user
  end)

  it("about an error that is raised again: where the task raised it", function()
    local r = co_run[[
      local t = co.spawn(function()
        co.sleep(0)
        error("the reason")
      end)
      t:get()]]
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("script.lua:3: the reason", 1, true), r.stderr)
  end)
end)

describe("a mistake", function()
  it("is reported at the line of the script that made it", function()
    co[[
      local t, q = co.spawn(function() co.sleep(60) end), co.Queue()
      raises({ "script.lua:3", "'Task:kill'", "task" }, function()
        t.kill(5) end)
      raises({ "script.lua:5", "'Task:join'", "mp.Task" }, function()
        t.join(5) end)
      raises({ "script.lua:7", "joinall: element 2 is not a task (a number)" }, function()
        co.joinall{ t, 5 } end)
      raises({ "script.lua:9", "joinall: a task cannot wait for itself" }, function()
        co.joinall{ co.current() } end)
      raises({ "script.lua:11", "wait: list[1] cannot be waited for" }, function()
        co.wait{ 1.5 } end)
      raises({ "script.lua:13", "iwait: list[1] cannot be waited for" }, function()
        co.iwait{ {} } end)
      raises({ "script.lua:15", "offload: function.upvalue 'q': cannot send a mp.co.Queue" }, function()
        co.offload(function() return q end) end)
      raises({ "script.lua:17", "offload: args[2]: cannot send a coroutine" }, function()
        co.offload(print, 1, coroutine.create(print)) end)
      raises({ "script.lua:19", "offload: a shared object cannot be passed to a thread" }, function()
        co.offload(print, mp.Queue()) end)
      t:kill()]]
  end)
end)

describe("offload, in full", function()
  it("passes values and errors there and back, but no shared objects", function()
    co[[
      eq(table.pack(co.offload(function(...) return ... end, 1, nil, { 2 })), table.pack(1, nil, { 2 }))
      raises("index a nil value", co.offload, function() local x = nil return x.y end)
      raises("shared object", co.offload, print, mp.Lock())
      raises("coroutine", co.offload, function() return coroutine.create(print) end)
      raises("function", co.offload, 5)]]
  end)

  it("can be waited for with a limit, and does not delay the exit", function()
    ok([[
      local co = mp.co
      eq(table.pack(co.with_timeout(0.05, co.offload, os.execute, "sleep 10")), table.pack(nil, "timeout"))]],
      { timeout = 8 })
  end)
end)
