-- Objects of a manager of a URL: what they share with those of mp, and what only they have.
local support = require "spec.support"
local redis = require "spec.support.redis"

local ok = redis.scenarios([[
local co = mp.co
local function matches(text, pattern) raises(pattern, error, text, 0) end
local m = mp.Manager(URL, { namespace = NAMESPACE, lease = 2 })
-- Runs f in a process that is killed when it has said so.
local function killed(f)
  local told, tell = mp.Pipe()
  local p = mp.Process{ target = function() f() tell:send(true) co.sleep(60) end, daemon = true }
  p:start()
  told:recv()
  p:kill()
  p:join()
end
]], setup, teardown)

describe("a manager of a URL", function()
  it("refuses what is no URL of a server, and never shows a password", function()
    ok [[
      local function refused(...) return select(2, pcall(mp.Manager, ...)) end
      matches(refused("http://u:secret@h"), "'http://h' is no URL of a server: it must begin with redis://")
      matches(refused("redis://u:secret@h:99999"), "it has no host and port")
      matches(refused("redis://h:1/x"), "the database must be a number")
      matches(refused("unix://path"), "unix:///path expected")
      matches(refused(7), "bad argument #1 to 'Manager'")
      matches(refused(URL, { lease = 1 }), "option 'lease' must be a number of seconds from 2 to 600, got 1")
      matches(refused(URL, { namespace = "a b" }), "option 'namespace' must be letters")
      matches(refused(URL, { nonsense = 1 }), "unknown option 'nonsense'")
      local e = refused("redis://u:secret@127.0.0.1:1/0")
      eq(e.kind, "disconnected")
      matches(e.message, "cannot connect to redis://127.0.0.1:1/0: ")
      eq(e.message:find("secret", 1, true), nil)
    ]]
  end)

  it("gives handles that arrive in processes of every start method, and in remote objects", function()
    ok [[
      local d = m:dict("d", { x = 1 })
      for _, method in ipairs(mp.get_all_start_methods()) do
        local q = mp.Queue()
        local p = mp.get_context(method).Process(function(into, dict, lock)
          into:put{ dict.x, lock:acquire(), dict, lock.fence > 0 }
          lock:release()
        end, q, d, m:Lock("l"))
        p:start()
        local got = q:get()
        eq({ got[1], got[2], got[3] == d, got[4] }, { 1, true, true, true })
        p:join()
      end
      d.me = { d, lock = m:Lock "l" }
      eq({ d.me[1] == d, d.me.lock == m:Lock "l", d.me[1].x }, { true, true, 1 })
    ]]
  end)

  it("refuses shared objects, functions and wrong names", function()
    ok [[
      local d = m:dict "d"
      raises("value.a: cannot send a shared object", function() d.x = { a = mp.Lock() } end)
      raises("value: cannot send a function", function() d.x = print end)
      raises("the name of an object must be a string", function() m:dict(5) end)
      raises("1 to 255 bytes", function() m:dict "" end)
      raises("the manager is shut down", function() m:shutdown() m:dict "x" end)
    ]]
  end)
end)

describe("a remote dict", function()
  it("does what a dict does", function()
    ok [[
      local d = m:dict "d"
      eq({ #d, d.x, d:get("x", 5) }, { 0, nil, 5 })
      d.x, d[1.0], d[true], d[1.5] = 1, "one", { 1, 2, { a = 3 } }, 0.5
      d["s\0"] = math.mininteger
      eq({ d.x, d[1], d[true][3].a, d[1.5], d["s\0"], #d }, { 1, "one", 3, 0.5, math.mininteger, 5 })
      eq({ d:incr "x", d:incr("x", 0.5), d:incr("new", 5), d:incr("new", -6) }, { 2, 2.5, 5, -1 })
      eq({ math.type(d.new), math.type(d.x) }, { "integer", "float" })
      raises("the value is a string, not a number", function() d:incr(1) end)
      raises("'keys' is a method", function() d.keys = 1 end)
      raises("a key must be a string, number or boolean, got NaN", function() d[0 / 0] = 1 end)
      raises("a key must be", function() return d[{}] end)
      eq({ d:pop "x", d:pop "x", d:pop("x", "none"), d:has "x" }, { 2.5, nil, "none", false })
      eq({ d:setdefault("q", 7), d:setdefault("q", 8) }, { 7, 7 })
      eq(d:modify("q", function(v) return v * 2 end), 14)
      eq(d:modify("q", function() return nil end), nil)
      eq(d:has "q", false)
      d:update{ a = 1, b = { 2 } }
      local copy = d:copy()
      eq({ copy.a, copy.b[1], copy[1] }, { 1, 2, "one" })
      local seen = 0
      for k, v in pairs(d) do seen = seen + 1 if type(v) ~= "table" then eq(d[k], v) end end
      eq({ seen, #d:keys(), #d:values(), #d:items() }, { #d, #d, #d, 7 })
      d:clear()
      eq({ #d, d:popitem() }, { 0 })
      d.k = nil
    ]]
  end)

  it("adds and modifies as one step among processes", function()
    ok [[
      local d = m:dict "d"
      local all = {}
      for i = 1, 3 do
        all[i] = mp.Process(function()
          for j = 1, 200 do
            d:incr "n"
            d:modify("m", function(v) return (v or 0) + 1 end)
          end
        end)
        all[i]:start()
      end
      for _, p in ipairs(all) do p:join() end
      eq({ d.n, d.m }, { 600, 600 })
    ]]
  end)

  it("writes under the guard of a lock only while it is held", function()
    ok [[
      local d, l = m:dict "d", m:Lock "l"
      raises("the lock that guards it is not held", function() d:set("k", 1, { guard = l }) end)
      l:acquire()
      d:set("k", 1, { guard = l })
      l:release()
      raises("is not held", function() d:set("k", 2, { guard = l }) end)
      raises("option 'guard' must be a Lock", function() d:set("k", 2, { guard = 7 }) end)
      eq(d.k, 1)
    ]]
  end)
end)

describe("a remote lock", function()
  it("is acquired and released in turn", function()
    support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
    ok [[
      local l = m:Lock "l"
      eq({ l:acquire(), l:locked(), m:Lock "l":locked() }, { true, true, true })
      eq({ l:acquire(0) }, { nil, "timeout" })
      eq({ l:acquire(0.05) }, { nil, "timeout" })
      local order, tasks = {}, {}
      for i = 1, 5 do
        tasks[i] = co.spawn(function()
          l:acquire()
          order[#order + 1] = i
          l:release()
        end)
        co.sleep(0.02) -- each joins the line after the one before
      end
      local first = l.fence
      l:release()
      co.joinall(tasks)
      eq(order, { 1, 2, 3, 4, 5 })
      eq(l:locked(), false)
      raises("Lock:release: the lock is not held", function() l:release() end)
      l:acquire()
      eq(l.fence > first, true)
      l:release()
      do local g <close> = l:guard() eq(l:locked(), true) end
      eq({ l:with(function() return l:locked() end), l:locked() }, { true, false })
    ]]
  end)

  it("goes to the next when a waiting task is cancelled", function()
    ok [[
      local l = m:Lock "l"
      l:acquire()
      local cancelled = co.spawn(function() l:acquire() end)
      co.sleep(0.05)
      local t = co.spawn(function() return l:acquire() end)
      co.sleep(0.05)
      cancelled:kill()
      cancelled:join()
      l:release()
      eq(t:get(5), true)
    ]]
  end)

  it("is not disturbed by tasks that are cancelled while they ask", function()
    ok [[
      local d, asking = m:dict "d", {}
      local steady = {}
      for i = 1, 4 do
        steady[i] = co.spawn(function() for j = 1, 200 do d:incr "n" end end)
      end
      for round = 1, 200 do
        for i = 1, 5 do asking[i] = co.spawn(function() while true do local _ = d.x end end) end
        co.sleep(0)
        for i = 1, 5 do asking[i]:kill() end
        co.joinall(asking)
      end
      co.joinall(steady, nil, { raise_error = true })
      eq(d.n, 800)
    ]]
  end)

  it("excludes the others, over processes", function()
    ok [[
      local l, d = m:Lock "l", m:dict "d"
      d.n = 0
      local all = {}
      for i = 1, 3 do
        all[i] = mp.Process(function()
          for j = 1, 100 do l:with(function() d.n = d.n + 1 end) end
        end)
        all[i]:start()
      end
      for _, p in ipairs(all) do p:join() end
      eq(d.n, 300)
    ]]
  end)

  it("tells the next owner that the last one died, after its lease", function()
    ok [[
      killed(function() m:Lock "l":acquire() end)
      eq({ m:Lock "l":acquire(10) }, { true, "owner_died" })
      m:Lock "l":release()
      eq({ m:Lock "l":acquire() }, { true })
    ]]
  end)

  it("stays with a program that computes for longer than its lease", function()
    ok [[
      local l = m:Lock "l"
      l:acquire()
      local p = mp.Process(function() return os.exit(m:Lock "l":acquire(3.5) and 1 or 0) end)
      p:start()
      local till = mp.now() + 4
      while mp.now() < till do end
      p:join()
      eq(p.exitcode, 0)
      l:release()
    ]]
  end)

  it("is held by levels as an RLock", function()
    ok [[
      local l = m:RLock "l"
      eq({ l:acquire(), l:acquire() }, { true, true })
      local t = co.spawn(function()
        local got, why = l:acquire(0)
        local released, err = pcall(l.release, l)
        return got, why, released, err
      end)
      local got, why, released, err = t:get()
      eq({ got, why, released }, { nil, "timeout", false })
      matches(err, "the lock is not held by this task")
      l:release()
      eq(l:locked(), true)
      l:release()
      eq(l:locked(), false)
      raises("RLock:release: the lock is not held by this task", function() l:release() end)
    ]]
  end)
end)

describe("a remote semaphore", function()
  it("gives its permits in turn, and those of a dead process again", function()
    ok [[
      local s = m:Semaphore("s", 2)
      eq({ s:get_value(), s:acquire(), s:acquire(), s:get_value(), s:locked() }, { 2, true, true, 0, true })
      eq({ s:acquire(0) }, { nil, "timeout" })
      eq({ s:acquire(0.05) }, { nil, "timeout" })
      local t = co.spawn(function() return s:acquire() end)
      co.sleep(0.05)
      s:release()
      eq({ t:get(5), s:get_value() }, { true, 0 })
      s:release()
      s:release()
      eq(s:get_value(), 2)
      killed(function() m:Semaphore "s":acquire() end)
      eq({ s:acquire(), s:acquire(10), s:get_value() }, { true, true, 0 })
      raises("exists with other parameters: 2, not 3", function() m:Semaphore("s", 3) end)
      local b = m:BoundedSemaphore("b", 1)
      raises("BoundedSemaphore:release", function() b:release() end)
      do local g <close> = b:guard() eq(b:get_value(), 0) end
      eq(b:get_value(), 1)
      local signal = m:Semaphore("signal", 0)
      signal:release()
      eq({ signal:acquire(0), signal:acquire(0) }, { true, nil, "timeout" })
    ]]
  end)

  it("loses no permit when a waiting task is cancelled or times out", function()
    ok [[
      local s = m:Semaphore("s", 1)
      s:acquire()
      for i = 1, 5 do
        local t = co.spawn(function() s:acquire() end)
        co.sleep(0.02)
        t:kill()
        t:join()
        eq({ s:acquire(0.01) }, { nil, "timeout" })
      end
      s:release()
      eq({ s:get_value(), s:acquire(0) }, { 1, true })
    ]]
  end)
end)

describe("a remote event", function()
  it("wakes all tasks of all processes", function()
    ok [[
      local e, d = m:Event "e", m:dict "d"
      eq({ e:is_set(), e:wait(0) }, { false, nil, "timeout" })
      eq({ e:wait(0.05) }, { nil, "timeout" })
      local all = {}
      for i = 1, 3 do
        all[i] = mp.Process(function()
          local tasks = {}
          for j = 1, 100 do tasks[j] = co.spawn(function() if e:wait() then d:incr "n" end end) end
          d:incr "ready"
          co.joinall(tasks)
        end)
        all[i]:start()
      end
      until_true(function() return d.ready == 3 end)
      e:set()
      for _, p in ipairs(all) do p:join() end
      eq({ d.n, e:is_set(), e:wait() }, { 300, true, true })
      e:clear()
      eq(e:is_set(), false)
    ]]
  end)
end)

describe("a remote condition", function()
  it("wakes as many tasks as are notified, with the lock", function()
    support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
    ok [[
      local c = m:Condition "c"
      local woken = 0
      local tasks = {}
      for i = 1, 3 do
        tasks[i] = co.spawn(function()
          c:acquire()
          eq(c:wait(), true)
          eq(c:is_mine(), true)
          woken = woken + 1
          c:release()
        end)
      end
      co.sleep(0.2)
      raises("the condition's lock is not held", function() c:notify() end)
      raises("the condition's lock is not held", function() c:wait() end)
      c:with(function() c:notify() end)
      until_true(function() co.sleep(0.01) return woken == 1 end)
      c:with(function() c:notify_all() end)
      co.joinall(tasks)
      eq(woken, 3)
      c:acquire()
      eq({ c:wait(0.05) }, { nil, "timeout" })
      eq({ c:is_mine(), c:locked() }, { true, true })
      c:release()
      eq(c:locked(), false)
      local ready = false
      local t = co.spawn(function() return c:with(function() return c:wait_for(function() return ready end) end) end)
      co.sleep(0.05)
      c:with(function() ready = true c:notify() end)
      eq(t:get(5), true)
    ]]
  end)

  it("keeps the level of its RLock, and has the lock again when a task is cancelled", function()
    ok [[
      local l = m:RLock "l"
      local c = m:Condition("c", l)
      local after
      local t = co.spawn(function()
        l:acquire()
        l:acquire()
        local ok = pcall(c.wait, c)
        after = { ok, c:is_mine() }
        l:release()
        l:release()
      end)
      co.sleep(0.1)
      eq(l:locked(), false)
      t:kill()
      t:join()
      eq({ after[1], after[2], l:locked() }, { false, true, false })
    ]]
  end)
end)

describe("a remote barrier", function()
  it("lets all go when the last arrives, and numbers them", function()
    ok [[
      local b = m:Barrier("b", 3)
      for round = 1, 2 do
        local tasks, seen = {}, {}
        for i = 1, 3 do tasks[i] = co.spawn(function() return b:wait() end) end
        for i = 1, 3 do seen[tasks[i]:get(5)] = true end
        eq({ #seen, b.parties, b.n_waiting, b.broken }, { 3, 3, 0, false })
      end
      eq({ b:wait(0.05) }, { nil, "broken" })
      eq({ b.broken, b:wait() }, { true, nil, "broken" })
      b:reset()
      local t = co.spawn(function() return b:wait() end)
      co.sleep(0.05)
      eq(b.n_waiting, 1)
      b:abort()
      eq({ t:get(5) }, { nil, "broken" })
      raises("'x' is new: its number of parties is expected", function() m:Barrier "x" end)
      raises("number of parties must be", function() m:Barrier("x", 0) end)
    ]]
  end)

  it("is broken by a process that dies in it", function()
    ok [[
      m:Barrier("b", 2)
      killed(function()
        co.spawn(function() m:Barrier "b":wait() end)
        until_true(function() co.sleep(0.01) return m:Barrier "b".n_waiting == 1 end)
      end)
      local b = m:Barrier "b"
      until_true(function() co.sleep(0.05) return b.broken end)
      eq({ b:wait(10) }, { nil, "broken" })
    ]]
  end)
end)

describe("a remote queue", function()
  it("hands out items in order", function()
    ok [[
      local q = m:Queue "q"
      eq({ q:get(0) }, { nil, "empty" })
      eq({ q:get(0.05) }, { nil, "empty" })
      eq({ q:put(1), q:put "two", q:put{ 3 }, q:put(nil), q:qsize(), q:empty() }, { true, true, true, true, 4, false })
      eq({ q:get(), q:get(), q:get()[1] }, { 1, "two", 3 })
      eq({ n = select("#", q:get()) }, { n = 1 })
      local t = co.spawn(function() return q:get() end)
      co.sleep(0.05)
      q:put "direct"
      eq({ t:get(5), q:qsize() }, { "direct", 0 })
      for i = 1, 3 do q:put(i) end
      q:close()
      eq({ q:put(4) }, { nil, "closed" })
      local seen = {}
      for v in q:iter() do seen[#seen + 1] = v end
      eq({ seen, q:get() }, { { 1, 2, 3 }, nil, "closed" })
    ]]
  end)

  it("takes its arguments as fields too", function()
    ok [[
      local q = m:Queue("q", { maxsize = 1 })
      eq({ q:put(1), m:Queue("q", 1):get() }, { true, 1 })
      eq(m:Semaphore("s", { value = 3 }):get_value(), 3)
      eq(m:Array("a", { type = "i", size = 2 }):totable(), { 0, 0 })
      raises("unknown field 'size'", function() m:Queue("x", { size = 1 }) end)
    ]]
  end)

  it("has room for so many items, and wakes the tasks that wait for room", function()
    ok [[
      local q = m:Queue("q", 2)
      eq({ q:put(1), q:put(2), q:full(), q:put(3, 0) }, { true, true, true, nil, "full" })
      eq({ q:put(3, 0.05) }, { nil, "full" })
      local t = co.spawn(function() return q:put(3) end)
      co.sleep(0.05)
      eq({ q:get(), t:get(5), q:get(), q:get(), q:get(0) }, { 1, true, 2, 3, nil, "empty" })
      raises("exists with other parameters: 2, not 5", function() m:Queue("q", 5) end)
      eq(m:Queue "q":put(1), true)
    ]]
  end)

  it("loses and doubles nothing among processes", function()
    ok [[
      local q, r = m:Queue("q", 20), m:Queue "r"
      local all = {}
      for i = 1, 2 do
        all[#all + 1] = mp.Process(function() for j = 1, 300 do q:put(i * 1000 + j) end end)
        all[#all + 1] = mp.Process(function()
          local sum, n = 0, 0
          for v in q:iter() do sum, n = sum + v, n + 1 end
          r:put{ sum, n }
        end)
      end
      for _, p in ipairs(all) do p:start() end
      all[1]:join()
      all[3]:join()
      q:close()
      local a, b = r:get(20), r:get(20)
      eq({ a[1] + b[1], a[2] + b[2] }, { 3000 * 300 + 300 * 301, 600 })
    ]]
  end)

  it("gives an item again that was on its way to a process that died", function()
    ok [[
      local q = m:Queue "q"
      local told, tell = mp.Pipe()
      local p = mp.Process{ target = function()
        co.spawn(function() tell:send(q:get()) end)
        co.sleep(0.2)
        tell:send "waits"
        co.sleep(60)
      end, daemon = true }
      p:start()
      eq(told:recv(), "waits")
      kill(p.pid, "STOP") -- it will not say that it has the item
      q:put "item"
      eq({ q:get(10), told:poll() }, { "item", false })
      p:kill()
    ]]
  end)

  it("waits until all items are done with", function()
    ok [[
      local q = m:JoinableQueue "q"
      eq(q:join(0), true)
      q:put(1)
      q:put(2)
      eq({ q:join(0.05) }, { nil, "timeout" })
      local t = co.spawn(function() return q:join() end)
      for i = 1, 2 do q:get() q:task_done() end
      eq(t:get(5), true)
      raises("called more often than there were items", function() q:task_done() end)
    ]]
  end)
end)

describe("a remote list", function()
  it("does what a list does", function()
    ok [[
      local l = m:list("l", { 1, "two", { 3 } })
      eq({ #l, l[1], l[2], l[3][1], l[4], l[0] }, { 3, 1, "two", 3 })
      l[1], l[#l + 1] = 10, "end"
      raises("out of range", function() l[9] = 1 end)
      raises("an item cannot be nil", function() l[1] = nil end)
      l:append(5)
      l:extend{ 6, 7 }
      l:insert(1, "first")
      l:insert(-1, "last but one")
      l:insert(100, "far")
      eq(l:copy(), { "first", 10, "two", { 3 }, "end", 5, 6, "last but one", 7, "far" })
      eq({ l:pop(), l:pop(1), l:pop(-1), l:index "end", l:index "none" }, { "far", "first", 7, 4 })
      l:remove "two"
      raises("is not in the list", function() l:remove "two" end)
      l:clear()
      eq({ #l, l:pop() }, { 0 })
      l:extend{ 3, 1.5, 2 }
      l:sort()
      eq(l:copy(), { 1.5, 2, 3 })
      l:sort(function(a, b) return a > b end)
      local wild = m:list("wild", { 3, 1, 2, 5, 4, 9, 8, 7, 6, 3, 1, 2 })
      local _, why = pcall(function() wild:sort(function() return true end) end)
      eq(why:match "%.lua:%d+: (.*)", "List:sort: invalid order function for sorting")
      l:reverse()
      eq(l:copy(), { 1.5, 2, 3 })
      local seen = {}
      for i, v in ipairs(l) do seen[i] = v end
      eq(seen, l:copy())
      eq(#m:list("l", { 9, 9, 9, 9 }), 3)
    ]]
  end)
end)

describe("a remote array", function()
  it("calculates as a local one with a copy, and names the methods that it does not have", function()
    ok [[
      local i, d = m:Array("mi", "i", { 3, -1, 4 }), m:Array("md", "d", { 0.5, 1.5 })
      eq({ i:sum(), i:min(), i:max(), i:shape(), d:sum(), d:max() }, { 6, -1, 4, 3, 2.0, 1.5 })
      eq({ i:dot(i), i:dot(mp.Array("i", { 1, 2, 3 })), d:dot(d) }, { 26, 13, 2.5 })
      raises("argument #1 must be of type 'i', got one of 'd'", i.dot, i, d)
      raises("argument #1 must be an array, got table", i.dot, i, { 1 })
      raises("elements of type 'c' are not numbers", function() m:Array("mc", "c", 2):sum() end)
      for _, name in ipairs{ "view", "field", "reshape", "row", "col", "get", "scale", "axpy" } do
        raises("Array:" .. name .. ": an array of a manager of a URL does not have this", i[name], i, 1, 2)
      end
      eq(i:string(2, 2), ("<i4"):pack(-1))
      i:set_string(("<i4i4"):pack(7, 8), 2)
      eq(i:totable(), { 3, 7, 8 })
      raises("3 bytes are not whole elements of 4 bytes", i.set_string, i, "abc")
      raises("2 elements from 3 on do not fit in 3", i.set_string, i, ("x"):rep(8), 3)
    ]]
  end)

  it("has the elements of its type, and refuses what does not fit", function()
    ok [[
      local a = m:Array("a", "i", { 1, 2, 3 })
      eq({ #a, a[1], a[3], a[4], a[0] }, { 3, 1, 3 })
      a[2] = 2.0 + 5
      eq(a:totable(), { 1, 7, 3 })
      raises("", function() a[1] = 1.5 end)
      raises("", function() a[1] = 1 << 40 end)
      raises("index 4 is out of range", function() a[4] = 1 end)
      a:set({ 8, 9 }, 2)
      eq({ a:totable(2), a:add(1, 5), a:compare_exchange(1, 6, 0), a:compare_exchange(1, 6, 1) },
        { { 8, 9 }, 6, true, false, 0 })
      a:fill(4)
      eq(a:totable(), { 4, 4, 4 })
      eq({ m:Array "a"[1], m:Array("d", "d", 2):totable() }, { 4, { 0.0, 0.0 } })
      raises("exists with other parameters: i 3, not i 5", function() m:Array("a", "i", 5) end)
      local text = m:Array("t", "c", "hello")
      text:set_string("J", 1)
      eq({ text:string(), text[2], m:Array("u", "u", { "é" })[1] }, { "Jello", "e", "é" })
      local v = m:Value("v", "d", 0.5)
      v.value = v.value + 1
      eq({ v.value, v:add(1), v:compare_exchange(2.5, 3), m:Value "v".value }, { 1.5, 2.5, true, 3.0 })
      eq({ m:Value("q", "q", math.mininteger).value, m:Value("n", "i").value }, { math.mininteger, 0 })
      v:with(function() eq(v:get_lock():locked(), true) end)
      local all = {}
      for i = 1, 2 do all[i] = P(function() for j = 1, 100 do m:Value "n":add(1) end end) end
      for _, p in ipairs(all) do p:join() end
      eq(m:Value "n".value, 200)
    ]]
  end)
end)

describe("a remote cache", function()
  it("does what a cache does", function()
    ok [[
      local c = m:Cache("c", { size = "1M", ttl = 60 })
      eq({ c:get "k", c:set("k", { 1 }), c:get "k"[1] }, { nil, nil, 1 })
      eq({ c:add("k", 2), c:add("new", 2), c:replace("k", 3), c:replace("none", 3) }, { false, true, true, false })
      eq({ c:get "k", c:delete "k", c:delete "k", c:ttl "k" }, { 3, true, false })
      eq({ c:incr("n", 5, 10), c:incr("n", 1), c:get "n" }, { 15, 16, 16 })
      raises("the key is absent, and there is no init", function() c:incr("absent", 1) end)
      raises("a cache stores no nil", function() c:set("k", nil) end)
      raises("ttl must be a number of seconds above 0", function() c:set("k", 1, 0) end)
      raises("the value is larger than the cache", function() c:set("k", ("x"):rep(2 << 20)) end)
      c:set("short", 1, 0.05)
      c:set("ever", 1, math.huge)
      eq({ c:get "short", c:ttl "ever", c:touch "ever", c:ttl "ever" > 50, c:touch "none" },
        { 1, math.huge, true, true, false })
      until_true(function() return c:get "short" == nil end)
      local s = c:stats()
      eq({ s.entries, s.expired, s.bytes < 1 << 20 }, { 3, 1, true })
      eq(#c:keys(), 3)
      c:clear()
      eq({ c:get "n", c:stats().entries, c:stats().bytes }, { nil, 0, 0 })
      raises("'x' is new: its size is expected", function() m:Cache "x" end)
    ]]
  end)

  it("is never larger than its size, and keeps what is read again in a scan", function()
    ok [[
      local c = m:Cache("c", { size = 100000 })
      c:set("hot", "value")
      eq(c:get "hot", "value")
      for i = 1, 400 do
        c:set(i, ("x"):rep(100 + i * 10))
        if i % 50 == 0 then eq({ c:get "hot", c:stats().bytes <= 100000 }, { "value", true }) end
      end
      eq(c:stats().evictions > 100, true)
    ]]
  end)

  it("computes a value once, whichever tasks and processes ask", function()
    ok [[
      local c, d = m:Cache("c", { size = "1M" }), m:dict "d"
      local function compute(k) d:incr "calls" co.sleep(0.2) return k .. "!" end
      local all = {}
      for i = 1, 2 do
        all[i] = P(function()
          local tasks = {}
          for j = 1, 3 do tasks[j] = co.spawn(function() eq(c:fetch("k", compute), "k!") end) end
          co.joinall(tasks, nil, { raise_error = true })
        end)
      end
      for _, p in ipairs(all) do p:join() eq(p.exitcode, 0) end
      eq({ d.calls, c:stats().computed, c:fetch("k", error) }, { 1, 1, "k!" })
      local calls = 0
      local function fail() calls = calls + 1 co.sleep(0.1) error("no value", 0) end
      local tasks = {}
      for j = 1, 3 do tasks[j] = co.spawn(function() return pcall(c.fetch, c, "bad", fail) end) end
      for j = 1, 3 do eq({ tasks[j]:get() }, { false, "no value" }) end
      eq({ calls, c:get "bad" }, { 1 })
      raises("the function returned nil", function() c:fetch("nothing", function() end) end)
      local both = {}
      for j = 1, 2 do
        both[j] = co.spawn(function() return pcall(c.fetch, c, "none", function() co.sleep(0.1) end) end)
      end
      for j = 1, 2 do
        local done, why = both[j]:get()
        eq({ done, why:match "%.lua:%d+: (.*)" }, { false, "Cache:fetch: the function returned nil" })
      end
      raises("by this very call", function() c:fetch("self", function() return c:fetch("self", print) end) end)
      local slow = co.spawn(function() c:fetch("slow", function() co.sleep(10) end) end)
      co.sleep(0.1)
      eq({ c:fetch("slow", error, { timeout = 0.05 }) }, { nil, "timeout" })
      slow:kill()
      eq(c:fetch("slow", function() return 1 end), 1)
    ]]
  end)

  it("lets another compute when the process that computes is killed", function()
    ok [[
      local c = m:Cache("c", { size = "1M" })
      killed(function() co.spawn(c.fetch, c, "k", function() co.sleep(60) end) co.sleep(0.2) end)
      eq(c:fetch("k", function() return "mine" end, { timeout = 10 }), "mine")
    ]]
  end)
end)

describe("a remote rate limiter", function()
  it("gives tokens in turn, at its rate", function()
    ok [[
      local r = m:RateLimiter("r", { rate = 20, burst = 2 })
      eq({ r:try(), r:try(), r:try() }, { true, true, false })
      local from = mp.now()
      local order, tasks = {}, {}
      for i = 1, 4 do
        tasks[i] = co.spawn(function() r:acquire() order[#order + 1] = i end)
        co.sleep(0.005)
      end
      co.joinall(tasks)
      eq(order, { 1, 2, 3, 4 })
      late(from, 0.15)
      eq({ r:acquire(2, 0) }, { nil, "timeout" })
      eq({ r:acquire(2, 0.01) }, { nil, "timeout" })
      raises("n must be at most the burst, 2, got 3", function() r:acquire(3) end)
      raises("n must be a number above 0", function() r:try(0) end)
      raises("rate must be a number above 0", function() m:RateLimiter("x", { rate = 0 }) end)
    ]]
  end)
end)

describe("arguments of every kind", function()
  it("give no error of the library's own code: it names the call and has a line of the script", function()
    support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
    ok [=[
      local misuse = require "spec.support.misuse"
      local d, l = m:dict("d", { a = 1 }), m:list("l", { 1 })
      local objects = {
        { "Manager", m, [[dict list Queue JoinableQueue Lock RLock Semaphore Event Condition Barrier Value Array Cache
          RateLimiter Pool Namespace]] },
        { "Queue", m:Queue("q", 5), "put get put_nowait get_nowait qsize empty full iter" },
        { "JoinableQueue", m:JoinableQueue("jq", 5), "put get task_done join" },
        { "Array", m:Array("a", "i", 5),
          [[totable set fill string set_string add compare_exchange get_lock acquire release guard sum min max dot
          shape]] },
        { "StructRef", m:Array("as", { { "x", "i" } }, 1)[1], "get set" },
        { "FieldRef", m:Array("av", { { "x", "i", 2 } }, 1)[1].x, "totable set" },
        { "Value", m:Value("v", "i", 5), "add compare_exchange get_lock acquire release guard" },
        { "Dict", d, "get set has setdefault pop popitem keys values items update clear copy incr modify" },
        { "List", l, "append insert pop remove extend index sort reverse clear copy" },
        { "Lock", m:Lock "lock", "acquire release locked guard with" },
        { "RLock", m:RLock "rlock", "acquire release locked guard with" },
        { "Semaphore", m:Semaphore("s", 1), "acquire release get_value guard with" },
        { "Event", m:Event "e", "set clear is_set wait" },
        { "Condition", m:Condition "c", "acquire release wait wait_for notify notify_all guard with" },
        { "Barrier", m:Barrier("b", 2), "wait reset abort" },
        { "Pool", m:Pool{}, "apply apply_async map map_async starmap starmap_async imap imap_unordered join" },
        { "Cache", m:Cache("ca", { size = "1M" }),
          "get set add replace delete touch ttl incr fetch keys clear stats" },
        { "RateLimiter", m:RateLimiter("rl", { rate = 1000 }), "acquire try" },
      }
      local probe = m:dict "probe"
      local function replies() for _ = 1, 5 do probe:get "x" end end
      eq(misuse.faults(objects, replies), {})
      os.exit(0) -- tasks that wait for what never comes
    ]=]
  end)

  it("of an array that do not fit are named as by a local array", function()
    ok [[
      local a, v = m:Array("a", "b", 3), m:Value("v", "b", 1)
      raises("Array: element 2 of type 'b' must be an integer in the range -128 to 127", function() a[2] = 300 end)
      raises("Array:set: element 3 of type 'b'", a.set, a, { 1, 2, 300 })
      raises("Array:fill: value of type 'b'", a.fill, a, "x")
      raises("Array:add: the sum 0 + 200 of type 'b'", a.add, a, 1, 200)
      raises("Value: value of type 'b'", function() v.value = 1.5 end)
      raises("Value:compare_exchange: desired of type 'b'", v.compare_exchange, v, 1, 300)
      eq(a:totable(), { 0, 0, 0 })
      eq(v.value, 1)
    ]]
  end)
end)
