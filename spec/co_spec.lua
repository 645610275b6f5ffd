local support = require "spec.support"
local ok, prints, run, ends = support.ok, support.prints, support.run, support.ends

-- Every scenario here uses mp.co.
local function co(code) return ok("local co = require 'mpengine'.co " .. code) end
local function co_run(code) return run("local co = require 'mpengine'.co " .. code) end

describe("a task", function()
  it("runs when the one that spawned it waits, not before", function()
    prints("spawned\ntask 1 2\n", [[
      local co = mp.co
      local t = co.spawn(function(a, b) print("task " .. a .. " " .. b) end, 1, 2)
      print "spawned"
      t:join()]])
  end)

  it("gives all its results", function()
    co[[
      local t = co.spawn(function(...) return ... end, 1, nil, 3, nil)
      eq(table.pack(t:get()), table.pack(1, nil, 3, nil))
      eq(table.pack(t:get(0)), table.pack(1, nil, 3, nil))
      eq(t.value, 1) eq(t.error, nil)
      eq(t:ready(), true) eq(t:successful(), true)
      eq(select("#", co.spawn(function() end):get()), 0)]]
  end)

  it("holds values by reference", function()
    co[[
      local t = {}
      assert(co.spawn(function(x) return x end, t):get() == t)
      local thread = coroutine.create(print)
      assert(co.spawn(function() return thread end):get() == thread)]]
  end)

  it("is joined: true; not within the timeout: nil, timeout, never early", function()
    co[[
      local t = co.spawn(function() co.sleep(0.3) return 1 end)
      eq(t:ready(), false)
      eq(table.pack(t:join(0)), table.pack(nil, "timeout"))
      eq(table.pack(t:get(0)), table.pack(nil, "timeout"))
      local from = now()
      eq(table.pack(t:join(0.05)), table.pack(nil, "timeout"))
      late(from, 0.05)
      eq(table.pack(t:get(0.05)), table.pack(nil, "timeout"))
      eq(t:join(), true)
      eq(t:join(), true) eq(t:join(0), true)]]
  end)

  it("sleeps no less than the given time", function()
    co[[
      for _, s in ipairs{ 0, 0.01, 0.1 } do
        local from = now()
        co.sleep(s)
        late(from, s)
      end
      mp.sleep(0.01)
      assert(mp.sleep == co.sleep)]]
  end)

  it("sleeps while the others go on, and wakes in the order of the deadlines", function()
    co[[
      local order, tasks = {}, {}
      for i, s in ipairs{ 0.4, 0.02, 0.2 } do
        tasks[i] = co.spawn(function() co.sleep(s) order[#order + 1] = i end)
      end
      co.joinall(tasks)
      eq(order, { 2, 3, 1 })]]
  end)

  it("that sleeps for 0 lets every other task run once", function()
    co[[
      local trace = {}
      local function step(name) for i = 1, 3 do trace[#trace + 1] = name .. i co.sleep(0) end end
      co.joinall{ co.spawn(step, "a"), co.spawn(step, "b") }
      eq(table.concat(trace, " "), "a1 b1 a2 b2 a3 b3")]]
  end)

  it("raises its error from get, unchanged", function()
    co[[
      local e = { code = 1 }
      local t = co.spawn(function() co.sleep(0) error(e) end)
      local good, err = pcall(t.get, t)
      eq(good, false)
      assert(err == e)
      eq(t:ready(), true) eq(t:successful(), false)
      assert(t.error == e)
      eq(t:join(), true)
      raises("script.lua:10: text", function() local u = co.spawn(function()
        error("text") end) u:get() end)]]
  end)

  it("that fails while no task waits for it prints the error with a traceback, and the others go on", function()
    local r = co_run[[
      local t = co.spawn(function()
        error("the reason")
      end)
      local other = co.spawn(function() co.sleep(0.01) print "other" end)
      co.sleep(0)
      other:join()
      print(select(2, pcall(t.get, t)):match("the reason"))]]
    assert.equal(0, r.status)
    assert.equal("other\nthe reason\n", r.stdout)
    assert.truthy(r.stderr:find("script.lua:2: the reason", 1, true), r.stderr)
    assert.truthy(r.stderr:find("stack traceback", 1, true), r.stderr)
  end)

  -- What is done with a task that fails, and that group's task; whether its error is printed.
  local HEARD = {
    ["get"] = "pcall(t.get, t)",
    ["get with a timeout"] = "pcall(t.get, t, 60)",
    ["get in a coroutine"] = "coroutine.wrap(function() pcall(t.get, t) end)()",
    ["get under a time limit"] = "pcall(co.with_timeout, 60, t.get, t)",
    ["get in another task"] = "co.spawn(function() pcall(t.get, t) end):join()",
    ["get and join"] = "local u = co.spawn(t.join, t) pcall(t.get, t) u:join()",
    ["joinall with raise_error"] = "pcall(co.joinall, { t }, nil, { raise_error = true })",
    ["Group:join with raise_error"] = "local g = co.Group() g:add(t) pcall(g.join, g, nil, true)",
    ["a link"] = "t:link(function() end) t:join()",
    ["a linked result"] = "local r = co.AsyncResult() t:link(r) pcall(r.get, r)",
    ["a scope"] = "t:kill() pcall(co.scope, function(s) s:spawn(fail) end)",
    ["apply of a pool"] = "t:kill() pcall(co.Pool(1).apply, co.Pool(1), fail)",
    ["map of a pool"] = "t:kill() pcall(co.Pool(1).map, co.Pool(1), fail, { 1 })",
  }
  local UNHEARD = {
    ["nothing"] = "over:wait()",
    ["join"] = "eq(t:join(), true)",
    ["joinall"] = "eq(co.joinall({ t }), { t })",
    ["joinall with count"] = "co.joinall({ t }, nil, { count = 1 })",
    ["co.wait"] = "co.wait()",
    ["co.wait for it"] = "co.wait { t }",
    ["mp.wait for it"] = "mp.wait { t }",
    ["co.iwait"] = "for _ in co.iwait { t } do end",
    ["Group:join"] = "local g = co.Group() g:add(t) g:join()",
    ["Pool:join"] = "local p = co.Pool(2) p:add(t) p:join()",
    ["a get that came too late"] = "t:join() pcall(t.get, t)",
    ["a get that has gone"] = "t:get(0.001) t:join()",
    ["a get that was killed"] = "local u = co.spawn(t.get, t) co.sleep(0) u:kill() u:join() t:join()",
    ["a joinall with raise_error that has gone"] = "co.joinall({ t }, 0.001, { raise_error = true }) t:join()",
    ["a scope that failed before"] = [[
      t:kill()
      pcall(co.scope, function(s)
        s:spawn(function() local _ <close> = setmetatable({}, { __close = fail }) co.sleep(60) end)
        co.sleep(0)
        error "first"
      end)]],
    ["joinall with raise_error, which raised another"] = [[
      pcall(co.joinall, { co.spawn(error, "first"), t }, nil, { raise_error = true })
      t:join()]],
    ["a link that fails"] = "t:kill() co.spawn(print):link(fail) over:wait()",
    ["spawn_later"] = "t:kill() co.spawn_later(0.001, fail):join()",
    ["the end of the program"] = "t:kill() co.spawn(function() local _ <close> = setmetatable({}, " ..
      "{ __close = function() error 'the reason' end }) co.sleep(60) end) co.sleep(0)",
  }
  local function errors_of(code)
    local r = co_run("local over = co.Event() local function fail() co.sleep(0.01) over:set() error('the reason') end\n"
      .. "local t = co.spawn(fail) " .. code)
    assert.equal(0, r.status, r.stderr)
    local _, count = r.stderr:gsub("the reason", "")
    return count, r.stderr
  end

  for what, code in pairs(HEARD) do
    it("whose error is raised by a call that waits for it then prints nothing: " .. what, function()
      local count, text = errors_of(code)
      assert.equal(0, count, text)
      assert.equal("", text)
    end)
  end

  for what, code in pairs(UNHEARD) do
    it("whose error no call will raise prints it once: " .. what, function()
      if code:find "__close" then
        support.since("5.4.3", "drops the error of a close handler itself, in a coroutine that has yielded")
      end
      local count, text = errors_of(code)
      assert.equal(1, count, text)
      assert.truthy(text:find("stack traceback", 1, true), text)
    end)
  end

  it("that fails in a child or a pool's worker prints it there", function()
    local r = run[[
      local function work()
        local t = mp.co.spawn(function() error "the reason" end)
        t:join()
      end
      P(work):join()
      local pool <close> = mp.Pool(1)
      pool:apply(work)]]
    local _, count = r.stderr:gsub("the reason", "")
    assert.equal(2, count, r.stderr)
  end)

  it("can be waited for by many", function()
    co[[
      local t = co.spawn(function() co.sleep(0.01) return "x" end)
      local tasks = {}
      for i = 1, 5 do tasks[i] = co.spawn(function() return t:get() end) end
      for i = 1, 5 do eq(tasks[i]:get(), "x") end]]
  end)

  it("may spawn tasks, without end of stack", function()
    co[[
      local function down(n) if n == 0 then return "bottom" end return co.spawn(down, n - 1):get() end
      eq(down(1000), "bottom")]]
  end)

  it("is one of ten thousand that sleep", function()
    ok([[
      local co = mp.co
      local tasks, n = {}, 0
      for i = 1, 10000 do tasks[i] = co.spawn(function() co.sleep(0.01 + i % 10 / 1000) n = n + 1 end) end
      eq(#co.joinall(tasks), 10000)
      eq(n, 10000)]], { timeout = 40 })
  end)

  it("is the current task while it runs, and has a name", function()
    co[[
      local main = co.current()
      assert(main)
      local inner
      local t = co.spawn(function() inner = co.current() end)
      t:join()
      assert(inner == t and inner ~= main)
      assert(type(t.name) == "string")
      assert(#tostring(t) > 0)]]
  end)

  it("must be given a function", function()
    co[[
      raises({ "spawn", "function" }, co.spawn, 5)
      raises({ "spawn", "function" }, co.spawn)
      raises({ "sleep", "seconds" }, co.sleep, -1)
      raises({ "sleep", "seconds" }, co.sleep, 0/0)
      raises({ "sleep" }, co.sleep, "x")]]
  end)

  it("does not keep the program from ending when the main chunk ends", function()
    prints("end\n", [[
      local co = mp.co
      co.spawn(function() co.sleep(3600) end)
      co.spawn(function() while true do co.sleep(0) end end)
      co.sleep(0.01)
      print "end"]], { timeout = 15 })
  end)
end)

describe("joinall", function()
  it("waits for all and gives the finished ones, those that failed included", function()
    local r = co_run[[
      local tasks = {}
      for i = 1, 3 do tasks[i] = co.spawn(function() co.sleep(0.01 * i) if i == 2 then error("x") end return i end) end
      local done = co.joinall(tasks)
      eq(#done, 3)
      eq(#co.joinall({}), 0)
      eq(#co.joinall(tasks), 3)]]
    assert.equal(0, r.status, r.stderr)
  end)

  it("gives those that have finished at the timeout", function()
    co[[
      local quick, slow = co.spawn(function() end), co.spawn(function() co.sleep(60) end)
      local from = now()
      local done = co.joinall({ slow, quick }, 0.1)
      late(from, 0.1)
      eq(#done, 1)
      assert(done[1] == quick)
      eq(#co.joinall({ slow }, 0), 0)]]
  end)

  it("stops at a count, and raises when asked to #later", function()
    co[[
      local tasks = {}
      for i = 1, 3 do tasks[i] = co.spawn(function() co.sleep(i == 1 and 0 or 60) end) end
      local done = co.joinall(tasks, nil, { count = 1 })
      eq(#done, 1)
      assert(done[1] == tasks[1])
      local bad = co.spawn(function() co.sleep(0.01) error("the reason") end)
      raises("the reason", co.joinall, { tasks[2], bad }, nil, { raise_error = true })]]
  end)
end)

describe("a wait", function()
  it("inside a coroutine of the script suspends the whole task", function()
    co[[
      local trace = {}
      local other = co.spawn(function() for i = 1, 3 do trace[#trace + 1] = "o" co.sleep(0) end end)
      local gen = coroutine.wrap(function()
        for i = 1, 3 do co.sleep(0) coroutine.yield(i) end
        return "end"
      end)
      eq({ gen(), gen(), gen(), gen() }, { 1, 2, 3, "end" })
      eq(#trace, 3)]]
  end)

  it("inside a coroutine in a coroutine keeps their states apart", function()
    co[[
      local function body()
        local inner = coroutine.create(function(a)
          co.sleep(0.001)
          local b = coroutine.yield(a + 1)
          co.sleep(0.001)
          return b * 2
        end)
        local good, v = coroutine.resume(inner, 1)
        eq({ good, v, coroutine.status(inner) }, { true, 2, "suspended" })
        co.sleep(0)
        good, v = coroutine.resume(inner, 10)
        eq({ good, v, coroutine.status(inner) }, { true, 20, "dead" })
        eq(coroutine.resume(inner), false)
        return "ok"
      end
      eq(body(), "ok")
      eq(co.spawn(body):get(), "ok")
      eq(coroutine.wrap(body)(), "ok")
      eq(co.spawn(function() return coroutine.wrap(function() return coroutine.wrap(body)() end)() end):get(), "ok")]]
  end)

  it("inside pcall, xpcall, iterators and metamethods suspends the task", function()
    co[[
      local ticks, stop = 0, false
      co.spawn(function() while not stop do ticks = ticks + 1 co.sleep(0) end end)
      eq(table.pack(pcall(function() co.sleep(0.002) return "p" end)), table.pack(true, "p"))
      local good, text = xpcall(function() co.sleep(0.002) error("x") end, function(e) return "handled " .. e end)
      eq(good, false)
      assert(text:find("handled", 1, true))
      local mt = { __index = function(_, k) co.sleep(0.002) return k end,
        __add = function() co.sleep(0.002) return "sum" end,
        __call = function(_, x) co.sleep(0.002) return x end, __eq = function() co.sleep(0.002) return true end,
        __lt = function() co.sleep(0.002) return true end, __concat = function() co.sleep(0.002) return "cat" end,
        __len = function() co.sleep(0.002) return 42 end }
      local a, b = setmetatable({}, mt), setmetatable({}, mt)
      eq({ a.key, a + b, a(3), a == b, a < b, a .. b, #a }, { "key", "sum", 3, true, true, "cat", 42 })
      local n = 0
      for i in function(_, i) co.sleep(0.002) if i < 3 then return i + 1 end end, nil, 0 do n = n + i end
      eq(n, 6)
      do local x <close> = setmetatable({}, { __close = function() co.sleep(0.002) n = 7 end }) end
      eq(n, 7)
      stop = true
      assert(ticks > 10)]]
  end)

  it("leaves the coroutine functions as they are", function()
    co[[
      local _, is_main = coroutine.running()
      eq(coroutine.isyieldable(coroutine.create(print)), true)
      local wrapped = coroutine.wrap(function() error({ mine = true }) end)
      local good, err = pcall(wrapped)
      eq({ good, err }, { false, { mine = true } })
      local closed
      local c = coroutine.create(function()
        local x <close> = setmetatable({}, { __close = function() closed = true end })
        coroutine.yield(1)
      end)
      eq(table.pack(coroutine.resume(c)), table.pack(true, 1))
      eq(coroutine.close(c), true)
      eq(closed, true)
      eq(coroutine.status(c), "dead")
      local outer
      outer = coroutine.create(function()
        local inner = coroutine.create(function() return coroutine.status(outer) end)
        return select(2, coroutine.resume(inner)), coroutine.status(outer)
      end)
      eq(table.pack(coroutine.resume(outer)), table.pack(true, "normal", "running"))
      eq(coroutine.resume(coroutine.running()), false)]]
  end)

  it("works in a module that is being required", function()
    ok[[
      package.preload["spec.waits"] = function() mp.sleep(0.01) return { loaded = true } end
      local t = mp.co.spawn(function() return require "spec.waits" end)
      eq(t:get().loaded, true)]]
  end)

  it("in a sort comparator or a gsub callback works, or raises one clear error #later", function()
    co[[
      local function try(f)
        local good, err = pcall(f)
        assert(good or tostring(err):find("cannot wait", 1, true), tostring(err))
      end
      local list = { 3, 1, 2 }
      try(function() table.sort(list, function(a, b) co.sleep(0.001) return a < b end) eq(list, { 1, 2, 3 }) end)
      try(function() eq((("abc"):gsub(".", function(c) co.sleep(0.001) return c:upper() end)), "ABC") end)
      co.sleep(0.001)]]
  end)
end)

describe("a task, in full #later", function()
  it("is spawned later", function()
    co[[
      local from = now()
      local t = co.spawn_later(0.1, function(x) return x end, "x")
      eq(t:ready(), false)
      eq(t:get(), "x")
      late(from, 0.1)
      local never = co.spawn_later(60, function() error("ran") end)
      never:kill()
      eq(never:join(), true)]]
  end)

  it("is called at every multiple of a time, without drift", function()
    co[[
      local from, times = now(), {}
      local t = co.every(0.05, function(x, y)
        eq({ x, y }, { "x", "y" })
        times[#times + 1] = now() - from
        co.sleep(#times == 2 and 0.12 or 0.01)
      end, "x", "y")
      co.wait({ co.spawn(function() while #times < 4 do co.sleep(0.005) end end) }, 5)
      t:kill()
      eq(t:join(5), true)
      local multiples = {}
      for i, at in ipairs(times) do
        multiples[i] = (at + 0.002) // 0.05
        assert(at >= 0.05 * i - 0.002) -- another clock
      end
      assert(multiples[1] >= 1 and multiples[2] > multiples[1])
      assert(multiples[3] >= multiples[2] + 3, "the turns within 0.12 s are skipped")
      assert(multiples[4] > multiples[3])]]
  end)

  it("every goes on after an error, and a kill ends the turn as well", function()
    local r = co_run[[
      local n, closed = 0, nil
      local t = co.every(0.01, function()
        n = n + 1
        if n == 1 then error "the first" end
        local guard <close> = setmetatable({}, { __close = function() closed = true end })
        co.sleep(60)
      end)
      while n < 2 do co.sleep(0.01) end
      t:kill()
      print(t:join(5), closed, select(2, t:get()))]]
    assert.equal("true\ttrue\tkilled\n", r.stdout)
    assert.truthy(r.stderr:find("the first", 1, true))
    assert.equal(0, r.status)
  end)

  it("every refuses what is no time and no function", function()
    co[[
      raises("bad argument #1 to 'co.every' (seconds must be a number, more than 0)", co.every, 0, print)
      raises("bad argument #1 to 'co.every'", co.every, "x", print)
      raises("bad argument #1 to 'co.every'", co.every, 0 / 0, print)
      raises("bad argument #2 to 'co.every' (function expected", co.every, 1)]]
  end)

  it("waits for a descriptor of a library", function()
    co[[
      local socket = require "socket"
      local server = assert(socket.bind("127.0.0.1", 0))
      local a = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
      local b = server:accept()
      eq(co.wait_fd(a:getfd(), "rw"), "w")
      eq(co.wait_fd(a:getfd(), "r", 0), nil)
      eq(select(2, co.wait_fd(a:getfd(), "r", 0.01)), "timeout")
      local ticks = 0
      local ticker = co.spawn(function() while true do ticks = ticks + 1 co.sleep(0.001) end end)
      co.spawn_later(0.05, function() b:send "x" end)
      eq(co.wait_fd(a:getfd(), "r"), "r")
      assert(ticks > 3)
      eq(co.wait_fd(a:getfd(), "rw", 5), "rw")
      eq(co.wait_fd(a:getfd(), "r", 5), "r") -- still: nothing was read
      ticker:kill()
      local waits = {}
      for i = 1, 3 do waits[i] = co.spawn(co.wait_fd, b:getfd(), "r", 5) end
      a:send "y"
      for i = 1, 3 do eq(waits[i]:get(), "r") end
      raises("bad argument #1 to 'co.wait_fd'", co.wait_fd, -1, "r")
      raises("bad argument #2 to 'co.wait_fd' (mode must be", co.wait_fd, 0, "x")
      raises("bad argument #3 to 'co.wait_fd'", co.wait_fd, 0, "r", -1)]]
  end)

  it("calls its links when it ends, late ones too", function()
    co[[
      local seen = {}
      local t = co.spawn(function() return 1 end)
      t:link(function(x) seen[#seen + 1] = x end)
      t:join()
      co.sleep(0)
      t:link(function(x) seen[#seen + 1] = x end)
      co.sleep(0)
      eq(#seen, 2)
      assert(seen[1] == t and seen[2] == t)]]
  end)

  it("is killed at its waiting point with an error object, and its close variables run", function()
    co[[
      local trace = {}
      local t = co.spawn(function()
        local x <close> = setmetatable({}, {
          __close = function(_, e) trace[#trace + 1] = e.kind .. " " .. e.reason end,
        })
        co.sleep(60)
        trace[#trace + 1] = "not here"
      end)
      co.sleep(0)
      t:kill("enough")
      eq(trace, {})
      eq(t:join(), true)
      eq(trace, { "killed enough" })
      eq(table.pack(t:get()), table.pack(nil, "killed"))
      eq(t:successful(), false)
      t:kill()]]
  end)

  it("killed before it ran never runs", function()
    co[[
      local t = co.spawn(function() error("ran") end)
      t:kill()
      eq(t:join(), true)
      eq(table.pack(t:get()), table.pack(nil, "killed"))]]
  end)

  it("cannot outlive a kill by pcall", function()
    ok([[
      local co, n = mp.co, 0
      local t = co.spawn(function()
        while true do pcall(function() co.sleep(60) end) n = n + 1 end
      end)
      local u = co.spawn(function()
        while true do pcall(function() mp.Queue():get() end) n = n + 1 end
      end)
      co.sleep(0)
      t:kill() u:kill()
      eq(t:join(10), true)
      eq(u:join(10), true)]], { timeout = 15 })
  end)

  it("may wait while its close variables run", function()
    co[[
      local done
      local t = co.spawn(function()
        local x <close> = setmetatable({}, { __close = function() co.sleep(0.05) done = true end })
        co.sleep(60)
      end)
      co.sleep(0)
      t:kill()
      eq(t:join(10), true)
      eq(done, true)]]
  end)

  it("does not wait forever in its close variables", function()
    ok([[
      local co = mp.co
      local t = co.spawn(function()
        local x <close> = setmetatable({}, { __close = function() co.sleep(3600) end })
        co.sleep(60)
      end)
      co.sleep(0)
      t:kill()
      eq(t:join(), true)]], { timeout = 20 })
  end)

  it("killed in any wait leaves the object working and takes nothing", function()
    ok([[
      local co = mp.co
      local q, lock, e, s, c, full = mp.Queue(), mp.Lock(), mp.Event(), mp.Semaphore(0), mp.Condition(), mp.Queue(1)
      full:put(1)
      lock:acquire()
      local waits = {
        function() q:get() end, function() lock:acquire() end, function() e:wait() end, function() s:acquire() end,
        function() c:acquire() c:wait() end, function() full:put(2) end, function() co.sleep(60) end,
        function() co.spawn(co.sleep, 60):join() end,
      }
      for i, f in ipairs(waits) do
        local t = co.spawn(f)
        co.sleep(0.002)
        t:kill()
        eq(t:join(10), true, "wait " .. i)
        eq(table.pack(t:get()), table.pack(nil, "killed"))
      end
      q:put("item") eq(q:get(0), "item")
      lock:release() eq(lock:acquire(0), true)
      s:release() eq(s:acquire(0), true)
      eq(full:qsize(), 1)]], { timeout = 30 })
  end)

  it("killed in a wait on a condition reacquires the lock before the kill is raised", function()
    co[[
      local c = mp.Condition(mp.Lock())
      local held
      local t = co.spawn(function()
        c:acquire()
        local x <close> = setmetatable({}, { __close = function() held = pcall(c.notify, c) c:release() end })
        c:wait()
      end)
      co.sleep(0)
      t:kill()
      t:join()
      eq(held, true)
      eq(c:acquire(0), true)]]
  end)

  it("loses no item that was already taken when it is killed", function()
    co[[
      for _ = 1, 200 do
        local q = mp.Queue()
        local got
        local t = co.spawn(function() got = q:get() end)
        co.sleep(0)
        q:put("item")
        t:kill()
        t:join()
        eq((got and 1 or 0) + q:qsize(), 1)
      end]]
  end)

  it("is killed inside nested coroutines too, and their close variables run", function()
    co[[
      local trace = {}
      local function closer(name) return setmetatable({}, { __close = function() trace[#trace + 1] = name end }) end
      local t = co.spawn(function()
        local a <close> = closer "outer"
        coroutine.wrap(function()
          local b <close> = closer "inner"
          co.sleep(60)
        end)()
      end)
      co.sleep(0)
      t:kill()
      t:join()
      eq(trace, { "inner", "outer" })]]
  end)

  it("is killed with many others", function()
    co[[
      local tasks = {}
      for i = 1, 5 do tasks[i] = co.spawn(co.sleep, 60) end
      co.sleep(0)
      co.killall(tasks)
      eq(#co.joinall(tasks, 10), 5)]]
  end)

  it("that is waiting cannot be resumed or closed from outside", function()
    co[[
      local c
      local t = co.spawn(function()
        c = coroutine.create(function() co.sleep(0.05) return "slept" end)
        return coroutine.resume(c)
      end)
      co.sleep(0)
      local good, err = coroutine.resume(c)
      eq(good, false)
      assert(type(err) == "string")
      eq(pcall(coroutine.close, c), false)
      eq(table.pack(t:get()), table.pack(true, "slept"))]]
  end)

  it("may not yield bare: the error names co.sleep(0)", function()
    co[[
      local t = co.spawn(function() coroutine.yield() end)
      raises("co.sleep(0)", t.get, t)
      local u = co.spawn(function() pcall(coroutine.yield, 1) return "on" end)
      eq(u:get(), "on")]]
  end)

  it("is killed at the end of the main chunk, and its close variables run", function()
    prints("end\nclosed\n", [[
      local co = mp.co
      co.spawn(function()
        local x <close> = setmetatable({}, { __close = function() co.sleep(0.01) print "closed" end })
        co.sleep(3600)
      end)
      co.sleep(0)
      print "end"]])
  end)

  it("is waited for at the end by co.wait()", function()
    prints("task\nend\n", [[
      local co = mp.co
      co.spawn(function() co.sleep(0.05) co.spawn(function() co.sleep(0.01) print "task" end) end)
      co.wait()
      print "end"]])
  end)

  it("shows the place where it was spawned in its traceback", function()
    local r = co_run[[
      local function start()
        return co.spawn(function() error("the reason") end)
      end
      start()
      co.sleep(0.01)]]
    assert.truthy(r.stderr:find("script.lua:2", 1, true), r.stderr)
    assert.truthy(r.stderr:find("script.lua:4", 1, true), r.stderr)
  end)
end)

describe("with_timeout #later", function()
  it("gives the results of the function", function()
    co[[
      eq(table.pack(co.with_timeout(10, function(...) co.sleep(0) return ... end, 1, nil)), table.pack(1, nil))
      raises("the reason", co.with_timeout, 10, function() error("the reason") end)]]
  end)

  it("cancels the function: nil, timeout, close variables run, never early", function()
    co[[
      local closed
      local from = now()
      eq(table.pack(co.with_timeout(0.1, function()
        local x <close> = setmetatable({}, { __close = function() closed = true end })
        co.sleep(60)
      end)), table.pack(nil, "timeout"))
      late(from, 0.1)
      eq(closed, true)
      co.sleep(0.01)]]
  end)

  it("is not outlived by pcall, and nests", function()
    co[[
      eq(table.pack(co.with_timeout(0.05, function()
        while true do pcall(co.sleep, 60) end
      end)), table.pack(nil, "timeout"))
      local inner
      local outer = table.pack(co.with_timeout(0.05, function()
        inner = table.pack(co.with_timeout(60, co.sleep, 60))
      end))
      eq(outer, table.pack(nil, "timeout"))
      eq(inner, nil)
      eq(table.pack(co.with_timeout(60, function()
        return co.with_timeout(0.02, co.sleep, 60)
      end)), table.pack(nil, "timeout"))]]
  end)

  it("interrupts an endless loop of Lua", function()
    ok([[
      local co = mp.co
      eq(table.pack(co.with_timeout(0.1, function() while true do end end)), table.pack(nil, "timeout"))]],
      { timeout = 15 })
  end)
end)

describe("a scope #later", function()
  it("ends when all its tasks have ended", function()
    co[[
      local n = 0
      co.scope(function(s)
        for i = 1, 3 do s:spawn(function(x) co.sleep(0.01) n = n + x end, i) end
        s:spawn(function() s:spawn(function() co.sleep(0.02) n = n + 10 end) end)
      end)
      eq(n, 16)]]
  end)

  it("cancels the others at an error and raises it", function()
    co[[
      local closed = 0
      raises("the reason", co.scope, function(s)
        for _ = 1, 2 do
          s:spawn(function()
            local x <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
            co.sleep(60)
          end)
        end
        s:spawn(function() co.sleep(0.01) error("the reason") end)
        co.sleep(60)
      end)
      eq(closed, 2)]]
  end)

  it("cancels its tasks when its own function raises, or is cancelled", function()
    co[[
      local closed = 0
      local function sleeper()
        local x <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
        co.sleep(60)
      end
      raises("mine", co.scope, function(s) s:spawn(sleeper) co.sleep(0) error("mine") end)
      eq(closed, 1)
      eq(table.pack(co.with_timeout(0.02, co.scope, function(s) s:spawn(sleeper) end)), table.pack(nil, "timeout"))
      eq(closed, 2)
      local t = co.spawn(co.scope, function(s) s:spawn(sleeper) end)
      co.sleep(0.01)
      t:kill()
      t:join()
      eq(closed, 3)]]
  end)
end)

describe("waiting for tasks #later", function()
  it("gives the tasks that are ready first", function()
    co[[
      local a, b = co.spawn(function() end), co.spawn(co.sleep, 60)
      local done = co.wait({ a, b }, nil, 1)
      eq(#done, 1)
      assert(done[1] == a)
      eq(#co.wait({ b }, 0.02), 0)
      local e = co.Event()
      e:set()
      assert(co.wait({ e })[1] == e)]]
  end)

  it("iterates over them as they end", function()
    co[[
      local tasks, order = {}, {}
      for i, s in ipairs{ 0.3, 0.01, 0.15 } do tasks[i] = co.spawn(function() co.sleep(s) return i end) end
      for t in co.iwait(tasks) do order[#order + 1] = t.value end
      eq(order, { 2, 3, 1 })]]
  end)
end)

describe("the objects of co #later", function()
  it("hold any value by reference", function()
    co[[
      local q, t = co.Queue(1), coroutine.create(print)
      eq(q:put(t), true)
      eq(table.pack(q:put(1, 0)), table.pack(nil, "full"))
      assert(q:get() == t)
      eq(table.pack(q:get(0)), table.pack(nil, "empty"))
      q:close()
      eq(table.pack(q:get()), table.pack(nil, "closed"))
      eq(table.pack(q:put(1)), table.pack(nil, "closed"))]]
  end)

  it("behave as those of mp", function()
    co[[
      local e, l, r, s = co.Event(), co.Lock(), co.RLock(), co.Semaphore(1)
      local b, c = co.BoundedSemaphore(1), co.Condition()
      eq(table.pack(e:wait(0)), table.pack(nil, "timeout"))
      local t = co.spawn(function() return e:wait() end)
      co.sleep(0)
      e:set()
      eq(t:get(), true)
      eq(l:acquire(), true) eq(table.pack(l:acquire(0)), table.pack(nil, "timeout")) l:release()
      raises("release", l.release, l)
      eq(r:acquire(), true) eq(r:acquire(), true)
      co.spawn(function() raises("release", r.release, r) end):get()
      r:release() r:release()
      do local g <close> = s:guard() eq(s:get_value(), 0) end
      raises("release", b.release, b)
      raises("wait", c.wait, c)
      c:acquire()
      eq(table.pack(c:wait(0)), table.pack(nil, "timeout"))]]
  end)

  it("serve the waiters in the order of their arrival", function()
    co[[
      for _, make in ipairs{ function() local q = co.Queue() return function() q:get() end, function() q:put(1) end end,
        function() local s = co.Semaphore(0) return function() s:acquire() end, function() s:release() end end } do
        local take, give = make()
        local order, tasks = {}, {}
        for i = 1, 5 do tasks[i] = co.spawn(function() take() order[#order + 1] = i end) end
        co.sleep(0)
        for _ = 1, 5 do give() end
        co.joinall(tasks)
        eq(order, { 1, 2, 3, 4, 5 })
      end]]
  end)

  it("lose nothing to a waiter that was killed or timed out", function()
    co[[
      local q = co.Queue()
      local a, b = co.spawn(function() return q:get(0.01) end), co.spawn(function() return q:get() end)
      local c = co.spawn(function() return q:get() end)
      a:join()
      b:kill()
      q:put("item")
      eq(c:get(10), "item")]]
  end)

  it("have a result that is set once", function()
    co[[
      local r = co.AsyncResult()
      eq(r:ready(), false)
      eq(table.pack(r:get(0)), table.pack(nil, "timeout"))
      local t = co.spawn(function() return r:get() end)
      co.sleep(0)
      r:set("x")
      eq(t:get(), "x") eq(r:get(), "x") eq(r:ready(), true) eq(r:wait(), true)
      local bad = co.AsyncResult()
      bad:set_error({ code = 1 })
      local good, err = pcall(bad.get, bad)
      eq(good, false) eq(err, { code = 1 })]]
  end)

  it("have groups and pools", function()
    co[[
      local g, n = co.Group(), 0
      for i = 1, 3 do g:spawn(function(x) co.sleep(0.01) n = n + x end, i) end
      g:add(co.spawn(function() n = n + 10 end))
      eq(g:join(), true)
      eq(n, 16)
      local h = co.Group()
      local t = h:spawn(co.sleep, 60)
      eq(table.pack(h:join(0)), table.pack(nil, "timeout"))
      h:kill()
      t:join(10)
      eq(t:ready(), true)
      local p, inside, most = co.Pool(2), 0, 0
      local got = p:map(function(x)
        inside = inside + 1
        most = math.max(most, inside)
        co.sleep(0.005)
        inside = inside - 1
        return x * 2
      end, { 1, 2, 3, 4, 5 })
      eq(got, { 2, 4, 6, 8, 10 })
      eq(most, 2)]]
  end)

  it("have variables that are freed with their task, or with the object", function()
    ok[[
      local co = mp.co
      local weak = setmetatable({}, { __mode = "k" })
      local function new() local t = {} weak[t] = true return t end
      local l, go = co.Local(), co.Event()
      local returned = co.spawn(function() l.x = new() co.sleep(0) end)
      local failed = co.spawn(function() l.x = new() co.sleep(0) error("failed") end)
      local killed = co.spawn(function() l.x = new() co.sleep(10) end)
      local waits = co.spawn(function()
        do local own = co.Local() own.x, own.self = new(), own end
        l.x = "kept"
        go:wait()
        return l.x
      end)
      pcall(failed.get, failed)
      killed:kill()
      returned:join() killed:join()
      collectgarbage() collectgarbage()
      eq(next(weak), nil)
      go:set()
      eq(waits:get(), "kept")]]
  end)

  it("have variables of a task's own", function()
    co[[
      local l = co.Local()
      l.x = "main"
      local t = co.spawn(function() local was = l.x l.x = "task" co.sleep(0) return { was, l.x } end)
      eq(t:get(), { nil, "task" })
      eq(l.x, "main")
      eq(coroutine.wrap(function() return l.x end)(), "main")]]
  end)
end)

describe("offload #later", function()
  it("runs a function that blocks on a thread, and gives its results", function()
    co[[
      local ticks, stop = 0, false
      co.spawn(function() while not stop do ticks = ticks + 1 co.sleep(0.001) end end)
      local n = 20000000
      local sum = co.offload(function(k) local s = 0 for i = 1, n do s = s + i % k end return s end, 7)
      stop = true
      assert(sum > 0)
      assert(ticks > 3, "the others did not go on")
      raises("the reason", co.offload, function() error("the reason") end)
      raises("coroutine", co.offload, function() end, coroutine.create(print))]]
  end)
end)

describe("a deadlock of all tasks #later", function()
  it("ends with an error that lists each task and the line where it waits, status 1", function()
    ends(1, { "script.lua:3", "script.lua:4" }, [[
      local co = mp.co
      local q, e = mp.Queue(), mp.Event()
      local t = co.spawn(function() q:get() end)
      e:wait()]])
  end)

  it("is not reported during a wait with a timeout, for a process, or for a timer", function()
    co[[
      local q, e = mp.Queue(), mp.Event()
      eq(table.pack(q:get(0.05)), table.pack(nil, "empty"))
      local p = P(function() mp.sleep(0.05) q:put(1) end)
      eq(q:get(), 1)
      p:join()
      co.spawn(function() co.sleep(0.05) e:set() end)
      e:wait()]]
  end)

  it("is reported when the last other process dies", function()
    ends(1, { "script.lua:3" }, [[
      local q = mp.Queue()
      P(function() end)
      q:get()]])
  end)
end)

describe("a forked child", function()
  it("has the objects of co it inherits without the parent's waiters", function()
    prints("child\t1\t1\ttrue\ttrue\t1\t0\n9\n", [[
      mp.set_start_method("fork")
      local co = mp.co
      q, event, lock, sem, full = co.Queue(), co.Event(), co.Lock(), co.Semaphore(0), co.Queue(1)
      full:put(1)
      lock:acquire()
      n = 0
      for _ = 1, 2 do
        co.spawn(function() q:get() n = n + 1 end)
        co.spawn(function() event:wait() n = n + 1 end)
        co.spawn(function() lock:acquire() n = n + 1 lock:release() end)
        co.spawn(function() sem:acquire() n = n + 1 end)
        co.spawn(function() co.wait({ q, event }, nil, 1) n = n + 1 end)
      end
      co.spawn(function() full:put(2) end)
      co.sleep(0)
      local p = mp.Process(function()
        q:put(1)
        local size, item = q:qsize(), q:get(0)
        event:set()
        lock:release()
        sem:release()
        print("child", size, item, lock:acquire(0), sem:acquire(0), full:get(0), n)
        co.sleep(0.01)
        os.exit(n == 0 and full:qsize() == 0)
      end)
      p:start()
      p:join()
      assert(p.exitcode == 0, p.exitcode)
      event:set() lock:release() sem:release() q:put(1) q:put(2)
      co.sleep(0.01)
      print(n)]])
  end)
end)
