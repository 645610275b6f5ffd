local support = require "spec.support"
local ok, prints, run = support.ok, support.prints, support.run

-- A child that installs a handler of TERM, says that it is ready, and runs body(stopped) until it returns.
local CHILD = [[
  local ready, out = mp.Queue(), mp.Queue()
  local function child(body)
    local p = P(function()
      local stopped = false
      mp.signal("TERM", function() stopped = true end)
      ready:put(1)
      body(function() return stopped end)
      out:put("cleaned up")
    end)
    ready:get()
    return p
  end
  local function stops(body)
    local p = child(body)
    p:terminate()
    if not p:join(10) then p:kill() error("the handler never ran", 2) end
    eq(out:get(0), "cleaned up")
  end ]]

describe("a handler of mp.signal", function()
  local busy = {
    ["computes"] = "while not stopped() do end",
    ["computes in a coroutine"] = "coroutine.wrap(function() while not stopped() do end end)()",
    ["computes in a task"] = "mp.co.spawn(function() while not stopped() do end end):join()",
    ["computes in a comparator"] =
      "table.sort({ 3, 2, 1 }, function(a, b) while not stopped() do end return a < b end)",
    ["works off a queue that is never empty"] =
      "local q = mp.Queue() for i = 1, 10 do q:put(i) end while not stopped() do q:put(q:get()) end",
    ["works off a queue of its own tasks"] = "local q = mp.co.Queue() while not stopped() do q:put(1) q:get() end",
    ["takes a free lock"] = "local l = mp.Lock() while not stopped() do local g <close> = l:guard() end",
    ["changes a dict in a function"] =
      "local d = mp.Dict() while not stopped() do d:modify(1, function() return 1 end) end",
    ["gives way all the time"] = "while not stopped() do mp.sleep(0) end",
    ["waits in turns"] = "while not stopped() do mp.sleep(0.001) end",
    ["catches errors"] = "while not stopped() do pcall(error) end",
  }
  for what, body in pairs(busy) do
    it("runs soon in a process that " .. what, function()
      ok(CHILD .. "stops(function(stopped) " .. body .. " end)")
    end)
  end

  it("runs in main scripts and pool workers that compute", function()
    ok[[
      local stopped
      mp.signal("USR1", function() stopped = true end)
      os.execute("(sleep 0.1; kill -USR1 " .. mp.current_process().pid .. ") >/dev/null 2>&1 &")
      while not stopped do end
      local ready, pool <close> = mp.Queue(), mp.Pool(1)
      local r = pool:apply_async(function()
        local got
        mp.signal("USR1", function() got = true end)
        ready:put(mp.current_process().pid)
        while not got do end
        return "got it"
      end)
      kill(ready:get(), "USR1")
      eq(r:get(10), "got it")]]
  end)

  it("that waits is resumed when the code it interrupted waits", function()
    prints("began\nwoke\ndone\n", [[
      local began, woke = false, false
      mp.signal("USR1", function()
        print("began")
        began = true
        mp.sleep(0.001)
        print("woke")
        woke = true
      end)
      os.execute("(sleep 0.1; kill -USR1 " .. mp.current_process().pid .. ") >/dev/null 2>&1 &")
      while not began do end
      for _ = 1, 1000 do assert(not woke) end
      while not woke do mp.sleep(0.001) end
      print("done")]])
  end)

  it("that fails is reported, and the code it interrupted goes on", function()
    local r = run[[
      local n = 0
      mp.signal("USR1", function() n = n + 1 error "the handler fails" end)
      os.execute("(sleep 0.1; kill -USR1 " .. mp.current_process().pid .. ") >/dev/null 2>&1 &")
      while n == 0 do end
      print "went on"]]
    assert.equal("went on\n", r.stdout)
    assert.equal(0, r.status)
    assert.truthy(r.stderr:find("the handler fails", 1, true), r.stderr)
  end)

  it("never runs inside the library's own Lua code", function()
    ok[[
      local co, list, rounds, seen = mp.co, {}, 0, 0
      local q, l, sem = co.JoinableQueue(3), co.RLock(), co.Semaphore(1)
      mp.signal("USR1", function()
        seen = seen + 1
        local info = debug.getinfo(2, "S") -- what was interrupted
        for level = 1, 4 do
          info = debug.getinfo(level, "S")
          if info and info.what == "Lua" then assert(info.source:sub(1, 10) ~= "=mpengine/", info.source) end
        end
        assert((l.levels == 0) == (l.owner == nil or not l:locked()))
      end)
      local me = mp.current_process().pid
      local p = P(function() for _ = 1, 300 do os.execute("kill -USR1 " .. me) end end)
      while p:is_alive() do
        for _ = 1, 100 do
          l:acquire() l:acquire() l:release() l:release()
          sem:acquire() sem:release()
          q:put(1) q:get() q:task_done()
        end
        rounds = rounds + 1
      end
      assert(seen > 0 and rounds > 0)
      eq(sem:get_value(), 1)
      eq(l:locked(), false)]]
  end)

  it("leaves the script its own hook", function()
    ok[[
      local got, lines = false, 0
      local function hook() lines = lines + 1 end
      debug.sethook(hook, "l")
      mp.signal("USR1", function() got = true end)
      os.execute("(sleep 0.1; kill -USR1 " .. mp.current_process().pid .. ") >/dev/null 2>&1 &")
      while not got do end
      for _ = 1, 10 do end
      local before = lines
      local x = 1
      local y = x
      assert(lines > before and debug.gethook() == hook)]]
  end)
end)

describe("Ctrl-C", function()
  local SOON = [[os.execute("(sleep 0.2; kill -INT " .. mp.current_process().pid .. ") >/dev/null 2>&1 &") ]]

  for what, code in pairs{
    computes = "while true do end",
    ["waits"] = "mp.sleep(60)",
    ["waits for a task that waits"] = "mp.co.spawn(mp.sleep, 60):join()",
    ["waits for a task that computes"] = "mp.co.spawn(function() while true do end end):join()",
    ["waits for a task that catches all errors"] =
      "mp.co.spawn(function() while true do pcall(function() while true do end end) end end):join()",
    ["waits in a scope"] = "mp.co.scope(function(s) s:spawn(mp.sleep, 60) end)",
    ["waits for a pool"] = "local pool <close> = mp.Pool(1) pool:apply(mp.sleep, { 60 })",
    ["waits for a child"] = "P(mp.sleep, 60):join()",
  } do
    it("of a main script that " .. what .. " tells once where it was: status 130", function()
      local script = "local function inner() " .. code .. " end\n" .. SOON .. "inner() print 'not here'"
      local r = run(script, { mode = "command" })
      assert.equal(130, r.status, r.stderr)
      assert.equal("", r.stdout)
      local _, messages = r.stderr:gsub("interrupted", "")
      assert.equal(1, messages, r.stderr)
      assert.equal(1, (r.stderr:find("mpengine: interrupted\nstack traceback:\n", 1, true)), r.stderr)
      assert.truthy(r.stderr:find("script.lua:1: in ", 1, true), r.stderr)
      assert.truthy(r.stderr:find("script.lua:2: in main chunk", 1, true), r.stderr)
      assert.falsy(r.stderr:find("mpengine[./]"), r.stderr) -- no function of the library
    end)
  end

  it("of a program whose main chunk has ended names no function: there is none of the script's", function()
    local r = run("P(mp.sleep, 60)\n" .. SOON, { mode = "command" })
    assert.equal(130, r.status, r.stderr)
    assert.equal("mpengine: interrupted\nstack traceback:\n\t[C]: in ?\n", r.stderr)
  end)

  it("that is caught and raised again reports where that was done", function()
    local r = run(SOON .. [[
      local function again()
        local _, err = pcall(mp.sleep, 60)
        error(err, 0)
      end
      again()]], { mode = "command" })
    assert.equal(130, r.status, r.stderr)
    assert.truthy(r.stderr:find("script.lua:3: in local 'again'\n", 1, true), r.stderr)
  end)

  it("that a task was computing at reports that place, too", function()
    local r = run("local co = mp.co\n" .. SOON .. [[
      local t = co.spawn(function()
        while true do end
      end)
      t:join()]], { mode = "command" })
    assert.equal(130, r.status, r.stderr)
    assert.truthy(r.stderr:find("raised in a task:\n.*script.lua:3: in function <"), r.stderr)
  end)

  it("that is caught has no effect on the report of later errors", function()
    local r = run(SOON .. [[
      local caught, err = pcall(mp.sleep, 60)
      print(caught, err)
      error "something else"]], { mode = "command" })
    assert.equal("false\tinterrupted\n", r.stdout)
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("something else\nstack traceback", 1, true), r.stderr)
  end)

  it("that the main chunk catches does not end tasks that yield", function()
    ok(SOON .. [[
      local co, n = mp.co, 0
      local t = co.spawn(function() while true do n = n + 1 co.sleep(0) end end)
      eq(tostring(select(2, pcall(co.wait))), "interrupted")
      local before = n
      co.sleep(0.01)
      assert(n > before)
      t:kill()]], { mode = "command" })
  end)

  it("in a wait that has state to restore lets it do so", function()
    ok([[
      local co, me = mp.co, mp.current_process().pid
      local function interrupted(f, ...)
        local p = P(function()
          asleep(me)
          os.execute("kill -INT " .. me)
        end)
        local good, err = pcall(f, ...)
        eq(good, false)
        eq(tostring(err), "interrupted")
        p:join()
        require "mpengine.core".catch_interrupts() -- the next one is a first one again
      end
      for _, c in ipairs { mp.Condition(), mp.Condition(mp.Lock()), co.Condition(), co.Condition(co.Lock()) } do
        c:acquire()
        interrupted(c.wait, c, 60)
        eq(c:locked(), true)
        c:release()
      end
      local levels = mp.RLock()
      local c = mp.Condition(levels)
      levels:acquire() levels:acquire()
      interrupted(c.wait, c)
      levels:release() levels:release()
      eq(levels:locked(), false)
      local b = mp.Barrier(2)
      interrupted(b.wait, b, 60)
      eq(b.broken, true)
      local lock = mp.Lock()
      interrupted(function() local _ <close> = lock:guard() mp.sleep(60) end)
      eq(lock:locked(), false)
      local q = mp.Queue()
      interrupted(q.get, q, 60)
      q:put(7)
      eq(q:get(1), 7)]], { mode = "command", timeout = 30 })
  end)
end)

describe("a condition", function()
  it("whose wait ends by a deadlock reacquires its lock, if that is possible", function()
    ok([[
      local c = mp.Condition()
      c:acquire()
      raises("can never come", c.wait, c)
      eq(c:locked(), true)
      c:release()]], { mode = "command" })
  end)
end)
