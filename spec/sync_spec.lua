local support = require "spec.support"
local ok = support.ok

-- What a Lock, an RLock and a Semaphore of 1 have in common.
for _, kind in ipairs{ "Lock", "RLock", "Semaphore" } do
  describe("a " .. kind, function()
    local function with(code) return ok((code:gsub("KIND", kind))) end

    it("is acquired and released", function()
      with[[
        local l = mp.KIND()
        for _ = 1, 3 do
          eq(l:acquire(), true)
          l:release()
        end]]
    end)

    it("is not acquired while another task has it: nil, timeout, and never early", function()
      with[[
        local co, l = mp.co, mp.KIND()
        l:acquire()
        local t = co.spawn(function()
          eq(table.pack(l:acquire(0)), table.pack(nil, "timeout"))
          local from = now()
          eq(table.pack(l:acquire(0.1)), table.pack(nil, "timeout"))
          late(from, 0.1)
        end)
        t:get()
        l:release()
        co.spawn(function() eq(l:acquire(0), true) l:release() end):get()]]
    end)

    it("is not acquired while another process has it", function()
      with[[
        local l, q, go = mp.KIND(), mp.Queue(), mp.Event()
        local p = P(function() l:acquire() q:put(1) go:wait() l:release() end)
        q:get()
        eq(table.pack(l:acquire(0)), table.pack(nil, "timeout"))
        eq(table.pack(l:acquire(0.05)), table.pack(nil, "timeout"))
        go:set()
        eq(l:acquire(10), true)
        l:release()
        all{ p }]]
    end)

    it("admits one owner at a time, of processes and tasks together", function()
      with[[
        local co, l, inside, total = mp.co, mp.KIND(), mp.Value("i", 0), mp.Value("i", 0)
        local list = {}
        for i = 1, 3 do
          list[i] = P(function()
            local tasks = {}
            for j = 1, 3 do
              tasks[j] = co.spawn(function()
                for n = 1, 60 do
                  l:acquire()
                  assert(inside:add(1) == 1)
                  if n % 20 == 0 then co.sleep(0.001) end
                  total.value = total.value + 1
                  assert(inside:add(-1) == 0)
                  l:release()
                  if n % 15 == 0 then co.sleep(0) end
                end
              end)
            end
            co.joinall(tasks)
            for j = 1, 3 do tasks[j]:get() end
          end)
        end
        all(list)
        eq(total.value, 540)]]
    end)

    it("suspends only the task that waits for it", function()
      with[[
        local co, l, q, go = mp.co, mp.KIND(), mp.Queue(), mp.Event()
        P(function() l:acquire() q:put(1) go:wait() l:release() end)
        q:get()
        local t = co.spawn(function() l:acquire() l:release() return "got it" end)
        for _ = 1, 5 do co.sleep(0.001) end
        eq(t:ready(), false)
        go:set()
        eq(t:get(), "got it")]]
    end)

    it("is released at the end of the scope of its guard, also by an error", function()
      with[[
        local l = mp.KIND()
        local function taken()
          local t = mp.co.spawn(function()
            local got = l:acquire(0)
            if got then l:release() end
            return not got
          end)
          return t:get()
        end
        do
          local g <close> = l:guard()
          assert(g)
          eq(taken(), true)
        end
        eq(taken(), false)
        raises("the reason", function()
          local g <close> = l:guard()
          eq(taken(), true)
          error("the reason")
        end)
        eq(taken(), false)]]
    end)

    it("gives no guard within the timeout: nil, timeout", function()
      with[[
        local l = mp.KIND()
        l:acquire()
        mp.co.spawn(function()
          eq(table.pack(l:guard(0)), table.pack(nil, "timeout"))
          local from = now()
          eq(table.pack(l:guard(0.05)), table.pack(nil, "timeout"))
          late(from, 0.05)
          local g <close> = l:guard(0)
        end):get()
        l:release()
        eq(l:acquire(0), true)]]
    end)

    it("runs a function with it held, gives its results and passes its error", function()
      with[[
        local l = mp.KIND()
        eq(table.pack(l:with(function(...) return ... end, 1, nil, 3)), table.pack(1, nil, 3))
        raises("the reason", l.with, l, function() error("the reason") end)
        mp.co.spawn(function() eq(l:acquire(0), true) l:release() end):get()]]
    end)

    it("says what it is, and is equal to itself wherever it arrives", function()
      with[[
        local l, q = mp.KIND(), mp.Queue()
        assert(tostring(l):find("^mp%.KIND: 0x%x+"), tostring(l))
        eq(getmetatable(l).__name, "mp.KIND")
        q:put{ l }
        assert(q:get()[1] == l)
        assert(l ~= mp.KIND())
        assert(l ~= 5)
        all{ P(function(m) assert(m == l) end, l) }]]
    end)

    it("refuses a negative and a NaN timeout", function()
      with[[
        local l = mp.KIND()
        for _, bad in ipairs{ -1, -0.001, 0/0, "soon", true, {} } do
          raises({ "acquire", "timeout" }, l.acquire, l, bad)
          raises({ "guard", "timeout" }, l.guard, l, bad)
        end
        eq(l:acquire(math.huge), true)]]
    end)
  end)
end

describe("a Lock", function()
  it("shows whether it is held, and by which process", function()
    ok[[
      local l, q, go = mp.Lock(), mp.Queue(), mp.Event()
      eq(l:locked(), false)
      local p = mp.Process{ name = "worker-2", target = function() l:acquire() q:put(1) go:wait() l:release() end }
      p:start()
      q:get()
      eq(l:locked(), true)
      local text = tostring(l)
      assert(text:find("worker-2", 1, true) and text:find("pid " .. p.pid, 1, true), text)
      go:set()
      p:join()
      eq(l:locked(), false)
      assert(not tostring(l):find("worker", 1, true), tostring(l))]]
  end)

  it("is not taken again by the task that has it", function()
    ok[[
      local l = mp.Lock()
      l:acquire()
      eq(table.pack(l:acquire(0)), table.pack(nil, "timeout"))
      eq(table.pack(l:acquire(0.02)), table.pack(nil, "timeout"))]]
  end)

  it("may be released by any task", function()
    ok[[
      local l = mp.Lock()
      l:acquire()
      all{ P(function() l:release() end) }
      eq(l:acquire(0), true)
      mp.co.spawn(function() l:release() end):get()
      eq(l:locked(), false)]]
  end)

  it("cannot be released when it is free", function()
    ok[[
      local l = mp.Lock()
      raises({ "release", "Lock" }, l.release, l)
      l:acquire() l:release()
      raises("release", l.release, l)
      eq(l:acquire(0), true)]]
  end)

  it("held by a process that exited without a release reports owner_died", function()
    ok[[
      local l = mp.Lock()
      all{ P(function() l:acquire() end) }
      eq(table.pack(l:acquire(10)), table.pack(true, "owner_died"))
      l:release()
      eq(table.pack(l:acquire()), table.pack(true))]]
  end)
end)

describe("an RLock", function()
  it("is taken again by the task that has it, and free after as many releases", function()
    ok[[
      local l = mp.RLock()
      for _ = 1, 5 do eq(l:acquire(), true) end
      local function free() return mp.co.spawn(function()
        local got = l:acquire(0)
        if got then l:release() end
        return got == true
      end):get() end
      for _ = 1, 5 do eq(free(), false) l:release() end
      eq(free(), true)
      raises({ "release", "RLock" }, l.release, l)]]
  end)

  it("is released only by its owner", function()
    ok[[
      local l = mp.RLock()
      l:acquire()
      mp.co.spawn(function() raises({ "release", "RLock" }, l.release, l) end):get()
      all{ P(function() raises({ "release", "RLock" }, l.release, l) end) }
      eq(l:locked(), true)
      l:release()
      eq(l:locked(), false)]]
  end)

  it("is held by a task in any of its coroutines", function()
    ok[[
      local l = mp.RLock()
      l:acquire()
      coroutine.wrap(function()
        eq(l:acquire(0), true)
        l:release()
        l:release()
      end)()
      eq(l:locked(), false)]]
  end)

  it("held by the parent at a fork is not held by the child", function()
    ok[[
      local l = mp.RLock()
      l:acquire()
      all{ P(function()
        eq(table.pack(l:acquire(0)), table.pack(nil, "timeout"))
        raises("release", l.release, l)
      end) }
      eq(l:locked(), true)
      l:release()]]
  end)
end)

describe("a Semaphore", function()
  it("admits n", function()
    ok[[
      local s = mp.Semaphore(2)
      eq(s:get_value(), 2)
      s:acquire() s:acquire()
      eq(s:get_value(), 0)
      eq(table.pack(s:acquire(0)), table.pack(nil, "timeout"))
      s:release()
      eq(s:get_value(), 1)
      eq(s:acquire(0), true)]]
  end)

  it("of 0 is opened by a release, and may grow beyond its start", function()
    ok[[
      local s, ready = mp.Semaphore(0), mp.Event()
      local p = P(function() ready:set() s:acquire() end)
      ready:wait()
      asleep(p.pid)
      s:release()
      all{ p }
      for _ = 1, 3 do s:release() end
      eq(s:get_value(), 3)]]
  end)

  it("is 1 without an argument", function()
    ok[[eq(mp.Semaphore():get_value(), 1)]]
  end)

  it("admits no more than n at once", function()
    ok[[
      local s, inside, list = mp.Semaphore(3), mp.Value("i", 0), {}
      for i = 1, 8 do
        list[i] = P(function()
          for n = 1, 30 do
            local _ <close> = s:guard()
            assert(inside:add(1) <= 3)
            if n % 10 == 0 then mp.sleep(0.001) end
            inside:add(-1)
          end
        end)
      end
      all(list)
      eq(s:get_value(), 3)]]
  end)
end)

describe("a lock's method", function()
  it("distinguishes a lock that was checked before from an object at the same address", function()
    ok[[
      for _ = 1, 200 do
        local l = mp.Lock()
        l:acquire()
        l:release()
        l = nil
        collectgarbage()
        local others = {}
        for i = 1, 20 do others[i] = i % 2 == 0 and mp.Queue() or io.tmpfile() end
        for _, other in ipairs(others) do raises("acquire", mp.Lock().acquire, other) end
        for i = 1, 20, 2 do others[i]:close() end
      end]]
  end)
end)

describe("a BoundedSemaphore #later", function()
  it("cannot be released above its start", function()
    ok[[
      local s = mp.BoundedSemaphore(2)
      raises({ "release", "BoundedSemaphore" }, s.release, s)
      s:acquire()
      s:release()
      raises("release", s.release, s)
      eq(s:get_value(), 2)
      assert(tostring(s):find("^mp%.BoundedSemaphore: 0x"), tostring(s))
      eq(getmetatable(s).__name, "mp.BoundedSemaphore")
      local g <close> = s:guard()
      eq(s:get_value(), 1)]]
  end)
end)

describe("an Event", function()
  it("is set and cleared", function()
    ok[[
      local e = mp.Event()
      eq(e:is_set(), false)
      e:set() e:set()
      eq(e:is_set(), true)
      eq(e:wait(), true) eq(e:wait(0), true)
      e:clear() e:clear()
      eq(e:is_set(), false)
      assert(tostring(e):find("^mp%.Event: 0x"), tostring(e))]]
  end)

  it("that is not set is waited for: nil, timeout, and never early", function()
    ok[[
      local e = mp.Event()
      eq(table.pack(e:wait(0)), table.pack(nil, "timeout"))
      local from = now()
      eq(table.pack(e:wait(0.15)), table.pack(nil, "timeout"))
      late(from, 0.15)]]
  end)

  it("wakes all waiters, tasks and processes", function()
    ok[[
      local co, e, ready, list = mp.co, mp.Event(), mp.Queue(), {}
      for i = 1, 3 do
        list[i] = P(function()
          local tasks = {}
          for j = 1, 3 do tasks[j] = co.spawn(function() ready:put(1) return e:wait(10) end) end
          co.joinall(tasks)
          for j = 1, 3 do eq(tasks[j]:get(), true) end
        end)
      end
      for _ = 1, 9 do ready:get() end
      e:set()
      all(list)]]
  end)

  it("set before the wait is seen by a process started later", function()
    ok[[
      local e = mp.Event()
      e:set()
      all{ P(function() eq(e:is_set(), true) eq(e:wait(0), true) end) }]]
  end)

  it("set and cleared at once still wakes the waiters", function()
    ok[[
      local e, ready = mp.Event(), mp.Event()
      local p = P(function() ready:set() eq(e:wait(10), true) end)
      ready:wait()
      asleep(p.pid)
      e:set() e:clear()
      all{ p }
      eq(e:is_set(), false)]]
  end)

  it("goes to and fro between two processes without losing a wake-up", function()
    ok([[
      local ping, pong = mp.Event(), mp.Event()
      local p = P(function()
        for _ = 1, 2000 do ping:wait() ping:clear() pong:set() end
      end)
      for _ = 1, 2000 do ping:set() pong:wait() pong:clear() end
      all{ p }]], { timeout = 30 })
  end)
end)

describe("a Condition", function()
  it("wakes one by notify, n by notify(n), all by notify_all", function()
    ok[[
      local c, waiting, woken, list = mp.Condition(), mp.Value("i", 0), mp.Queue(), {}
      for i = 1, 6 do
        list[i] = P(function()
          c:acquire()
          waiting:add(1)
          eq(c:wait(10), true)
          woken:put(i)
          c:release()
        end)
      end
      until_true(function() return waiting.value == 6 end)
      c:acquire() c:notify() c:release()
      woken:get()
      eq(table.pack(woken:get(0.05)), table.pack(nil, "empty"))
      c:acquire() c:notify(2) c:release()
      woken:get() woken:get()
      eq(table.pack(woken:get(0.05)), table.pack(nil, "empty"))
      c:with(function() c:notify_all() end)
      for _ = 1, 3 do woken:get() end
      all(list)]]
  end)

  it("does not wake a waiter that arrives after the notify", function()
    ok[[
      local c = mp.Condition()
      c:acquire()
      c:notify() c:notify_all() c:notify(5)
      eq(table.pack(c:wait(0.02)), table.pack(nil, "timeout"))
      c:release()]]
  end)

  it("releases its lock while it waits, and reacquires it afterwards", function()
    ok[[
      local lock = mp.Lock()
      local c = mp.Condition(lock)
      c:acquire()
      eq(lock:locked(), true)
      local p = P(function() lock:acquire() c:notify() lock:release() end)
      eq(c:wait(10), true)
      eq(lock:locked(), true)
      c:release()
      all{ p }
      eq(lock:locked(), false)]]
  end)

  it("reacquires the lock after a timeout too, and never returns early", function()
    ok[[
      local lock = mp.RLock()
      local c = mp.Condition(lock)
      c:acquire()
      local from = now()
      eq(table.pack(c:wait(0.1)), table.pack(nil, "timeout"))
      late(from, 0.1)
      mp.co.spawn(function() eq(table.pack(lock:acquire(0)), table.pack(nil, "timeout")) end):get()
      c:release()
      eq(lock:locked(), false)]]
  end)

  it("releases an RLock that was taken several times, and restores it", function()
    ok[[
      local lock = mp.RLock()
      local c = mp.Condition(lock)
      lock:acquire() lock:acquire() c:acquire()
      local p = P(function() c:acquire() c:notify() c:release() end)
      eq(c:wait(10), true)
      for _ = 1, 3 do eq(lock:locked(), true) lock:release() end
      eq(lock:locked(), false)
      all{ p }]]
  end)

  it("without a lock of its own has an RLock", function()
    ok[[
      local c = mp.Condition()
      c:acquire() eq(c:acquire(0), true)
      c:release() c:release()
      raises("release", c.release, c)]]
  end)

  it("is waited for and notified only by the owner of the lock", function()
    ok[[
      local c = mp.Condition()
      raises({ "wait", "Condition" }, c.wait, c)
      raises({ "wait", "Condition" }, c.wait, c, 0)
      raises("wait_for", c.wait_for, c, function() return true end)
      raises("notify", c.notify, c)
      raises("notify_all", c.notify_all, c)
      c:acquire()
      mp.co.spawn(function() raises("notify", c.notify, c) end):get()
      c:release()]]
  end)

  it("waits for a predicate and returns its value", function()
    ok[[
      local c, v = mp.Condition(), mp.Value("i", 0)
      local p = P(function()
        for _ = 1, 5 do c:with(function() v:add(1) c:notify_all() end) end
      end)
      c:acquire()
      eq(c:wait_for(function() return v.value >= 5 and "five" end, 10), "five")
      eq(c:wait_for(function() return "at once" end, 0), "at once")
      c:release()
      all{ p }]]
  end)

  it("waits for a predicate no longer than the timeout", function()
    ok[[
      local c = mp.Condition()
      c:acquire()
      local from = now()
      eq(table.pack(c:wait_for(function() return false end, 0.1)), table.pack(nil, "timeout"))
      late(from, 0.1)
      raises("the reason", c.wait_for, c, function() error("the reason") end)
      c:release()]]
  end)

  it("passes a baton between processes without losing a wake-up", function()
    ok([[
      local c, turn, list = mp.Condition(), mp.Value("i", 0), {}
      for i = 0, 2 do
        list[i + 1] = P(function()
          for _ = 1, 300 do
            local _ <close> = c:guard()
            c:wait_for(function() return turn.value % 3 == i end)
            turn:add(1)
            c:notify_all()
          end
        end)
      end
      all(list)
      eq(turn.value, 900)]], { timeout = 30 })
  end)

  it("takes only a Lock or an RLock", function()
    ok[[
      raises({ "Condition", "lock" }, mp.Condition, 5)
      raises({ "Condition", "lock" }, mp.Condition, mp.Queue())]]
  end)

  it("says what it is", function()
    ok[[assert(tostring(mp.Condition()):find("^mp%.Condition: 0x"))]]
  end)

  it("gives a notification to a waiter of that moment, not to the notifier that waits next", function()
    ok[[
      local c, woken = mp.Condition(), false
      local t = mp.co.spawn(function() c:acquire() c:wait() woken = true c:release() end)
      mp.sleep(0.001)
      c:acquire() c:notify()
      eq({ c:wait(0.1) }, { nil, "timeout" })
      c:release()
      assert(woken)]]
  end)

  it("can be notified while the state is closed, when its lock has been finalized", function()
    support.ends(1, { "can never come", "mp.Condition: 0x" }, [[
      local c = mp.Condition()
      local function wait() c:acquire() c:wait() c:release() end
      local a, b = mp.co.spawn(wait), mp.co.spawn(wait)
      mp.sleep(0.001)
      c:acquire() c:notify() a:kill() c:release()
      assert(b:join(0.05))]], { mode = "command" })
  end)

  it("passes the notification of a task that is killed to the next waiter", function()
    ok[[
      local c = mp.Condition()
      local function wait() local _ <close> = c:guard() c:wait() end
      local a, b = mp.co.spawn(wait), mp.co.spawn(wait)
      mp.sleep(0.001)
      c:acquire() c:notify() a:kill() c:release()
      assert(b:join(5))
      eq({ a:get() }, { nil, "killed" })]]
  end)
end)

describe("a Barrier #later", function()
  it("releases all when the last one arrives, each with a number of its own", function()
    ok[[
      local b, q, list = mp.Barrier(4), mp.Queue(), {}
      eq(b.parties, 4) eq(b.n_waiting, 0) eq(b.broken, false)
      for i = 1, 3 do list[i] = P(function() for _ = 1, 20 do q:put(b:wait(10)) end end) end
      local mine = {}
      for i = 1, 20 do mine[i] = b:wait(10) end
      all(list)
      local sum = 0
      for i = 1, 20 do sum = sum + mine[i] end
      for _ = 1, 60 do sum = sum + q:get(0) end
      eq(sum, 20 * (1 + 2 + 3 + 4))]]
  end)

  it("runs the action once, before any task continues", function()
    ok[[
      local n = mp.Value("i", 0)
      local b = mp.Barrier(3, function() n:add(1) end)
      local list = {}
      for i = 1, 2 do list[i] = P(function() assert(b:wait(10)) eq(n.value, 1) end) end
      assert(b:wait(10))
      eq(n.value, 1)
      all(list)]]
  end)

  it("is broken by a timeout, for all", function()
    ok[[
      local b = mp.Barrier(2)
      local from = now()
      eq(table.pack(b:wait(0.05)), table.pack(nil, "broken"))
      late(from, 0.05)
      eq(b.broken, true)
      eq(table.pack(b:wait()), table.pack(nil, "broken"))
      b:reset()
      eq(b.broken, false)
      local p = P(function() assert(b:wait(10)) end)
      assert(b:wait(10))
      all{ p }]]
  end)

  it("has a timeout of its own", function()
    ok[[eq(table.pack(mp.Barrier(2, nil, 0.02):wait()), table.pack(nil, "broken"))]]
  end)

  it("is broken for the waiters by abort and by reset", function()
    ok[[
      local b = mp.Barrier(3)
      for _, how in ipairs{ "abort", "reset" } do
        local list = {}
        for i = 1, 2 do list[i] = P(function() eq(table.pack(b:wait()), table.pack(nil, "broken")) end) end
        until_true(function() return b.n_waiting == 2 end)
        b[how](b)
        all(list)
        eq(b.broken, how == "abort")
        b:reset()
      end
      eq(b.n_waiting, 0)]]
  end)

  it("is broken by an error in the action, which is raised there", function()
    ok[[
      local b = mp.Barrier(2, function() error("in the action") end)
      local q = mp.Queue()
      local p = P(function() q:put(table.pack(pcall(b.wait, b))) end)
      local mine, other = table.pack(pcall(b.wait, b)), q:get()
      p:join()
      local raised = 0
      for _, r in ipairs{ mine, other } do
        if r[1] then eq(r[3], "broken")
        else raised = raised + 1 assert(tostring(r[2]):find("in the action", 1, true)) end
      end
      eq(raised, 1)
      eq(b.broken, true)]]
  end)

  it("is broken by a kill of a task that waits", function()
    ok[[
      local co, b = mp.co, mp.Barrier(2)
      local t = co.spawn(function() b:wait() end)
      co.sleep(0)
      t:kill()
      t:join()
      eq(b.broken, true)]]
  end)
end)
