local support = require "spec.support"
local ok, prints, run = support.ok, support.prints, support.run

describe("a pool", function()
  it("applies a function to arguments and gives all its results", function()
    ok[[
      local pool <close> = mp.Pool(2)
      eq(pool:apply(function(a, b) return a + b end, { 1, 2 }), 3)
      eq(table.pack(pool:apply(function(...) return ... end, { 1, "x" })), table.pack(1, "x"))
      eq(select("#", pool:apply(function() end)), 0)
      eq(pool:apply(string.rep, { "ab", 2 }), "abab")]]
  end)

  it("runs it in another process", function()
    ok[[
      local pool <close> = mp.Pool(3)
      local pids, n = {}, 0
      for _ = 1, 30 do
        local pid = pool:apply(function() return mp.current_process().pid end)
        if not pids[pid] then pids[pid], n = true, n + 1 end
      end
      assert(not pids[mp.current_process().pid])
      assert(n >= 1 and n <= 3)]]
  end)

  it("runs as many at once as it has workers", function()
    ok[[
      local pool <close> = mp.Pool(3)
      local b, here = mp.Value("i", 0), mp.Event()
      local list = {}
      for i = 1, 3 do
        list[i] = pool:apply_async(function()
          if b:add(1) == 3 then here:set() end
          return here:wait(10)
        end)
      end
      for i = 1, 3 do eq(list[i]:get(15), true) end]]
  end)

  it("has a worker for each processor by default", function()
    ok[[
      local pool <close> = mp.Pool()
      eq(pool:apply(function() return 1 end), 1)
      local other <close> = mp.Pool{}
      eq(other:apply(function() return 2 end), 2)
      local third <close> = mp.Pool{ processes = 1 }
      local a = third:apply(function() return mp.current_process().pid end)
      eq(third:apply(function() return mp.current_process().pid end), a)]]
  end)

  it("takes closures with their upvalues and shared objects", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local factor, lock, sum = 3, mp.Lock(), mp.Value("i", 0)
      local function scale(x)
        local _ <close> = lock:guard()
        sum.value = sum.value + x * factor
        return x * factor
      end
      eq(pool:map(scale, { 1, 2, 3 }), { 3, 6, 9 })
      eq(sum.value, 18)
      factor = 4
      eq(pool:apply(scale, { 1 }), 4)]]
  end)

  it("sends each function as it is at the call", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local n = 0
      local function get() return n end
      for i = 1, 5 do n = i eq(pool:apply(get), i) end
      local list = {}
      for i = 1, 20 do n = i list[i] = pool:apply_async(get) end
      for i = 1, 20 do eq(list[i]:get(), i) end]]
  end)

  it("maps in order", function()
    ok[[
      local pool <close> = mp.Pool(3)
      local list, want = {}, {}
      for i = 1, 500 do list[i], want[i] = i, i * i end
      eq(pool:map(function(x) return x * x end, list), want)
      eq(pool:map(function(x) return x * x end, list, { chunksize = 1 }), want)
      eq(pool:map(function(x) return x * x end, list, { chunksize = 1000 }), want)
      eq(pool:map(function(x) return x * x end, {}), {})
      eq(pool:map(function(x) return x == 2 and "two" or nil end, { 1, 2, 3 })[2], "two")]]
  end)

  it("maps large items and results", function()
    ok([[
      local pool <close> = mp.Pool(2)
      local list = {}
      for i = 1, 20 do list[i] = string.char(64 + i):rep(200000) end
      local got = pool:map(function(s) return s .. s end, list)
      for i = 1, 20 do assert(got[i] == list[i] .. list[i]) end]], { timeout = 40 })
  end)

  it("gives an asynchronous result once and again", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local r = pool:apply_async(function() return 1, nil, 3 end)
      eq(table.pack(r:get()), table.pack(1, nil, 3))
      eq(table.pack(r:get(0)), table.pack(1, nil, 3))
      eq(r:ready(), true) eq(r:successful(), true)
      eq(r:wait(), true) eq(r:wait(0), true)]]
  end)

  it("gives timeout while there is no result, and never early", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local go = mp.Event()
      local r = pool:apply_async(function() go:wait() return "done" end)
      eq(r:ready(), false)
      raises({ "successful" }, r.successful, r)
      eq(table.pack(r:get(0)), table.pack(nil, "timeout"))
      eq(table.pack(r:wait(0)), table.pack(nil, "timeout"))
      local from = now()
      eq(table.pack(r:get(0.1)), table.pack(nil, "timeout"))
      late(from, 0.1)
      go:set()
      eq(r:get(10), "done")]]
  end)

  it("has its tasks finished after close and join", function()
    ok[[
      local pool = mp.Pool(3)
      local n, list = mp.Value("i", 0), {}
      for i = 1, 60 do list[i] = pool:apply_async(function() n:add(1) return i end) end
      pool:close()
      pool:join()
      eq(n.value, 60)
      for i = 1, 60 do eq(list[i]:ready(), true) eq(list[i]:get(0), i) end
      pool:close() pool:join() pool:terminate() pool:join()]]
  end)

  it("never leaves a task behind a long one while a worker is idle", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local go, list = mp.Event(), {}
      local long = pool:apply_async(function() go:wait() return "long" end)
      for i = 1, 20 do list[i] = pool:apply_async(function() return i end) end
      for i = 1, 20 do eq(list[i]:get(10), i) end
      eq(long:ready(), false)
      go:set()
      eq(long:get(10), "long")]]
  end)

  it("never leaves an item of a map behind a long one while a worker is idle", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local n, all_short = mp.Value("i", 0), mp.Event()
      local list = {}
      for i = 1, 40 do list[i] = i end
      local got = pool:map(function(i)
        if i == 1 then return all_short:wait(10) end
        if n:add(1) == 39 then all_short:set() end
        return i
      end, list)
      eq(got[1], true)
      eq(got[40], 40)]]
  end)

  it("is not usable after close and after terminate", function()
    ok[[
      for _, how in ipairs{ "close", "terminate" } do
        local pool = mp.Pool(1)
        pool[how](pool)
        local f = function() end
        raises({ "apply", "pool" }, pool.apply, pool, f)
        raises({ "apply_async", "pool" }, pool.apply_async, pool, f)
        raises({ "map", "pool" }, pool.map, pool, f, { 1 })
        pool:join()
      end]]
  end)

  it("is joined only after close or terminate", function()
    ok[[
      local pool <close> = mp.Pool(1)
      raises({ "join", "close" }, pool.join, pool)
      eq(pool:apply(function() return "still works" end), "still works")]]
  end)

  it("is terminated with its tasks, busy or waiting, and their results report it", function()
    ok[[
      local pool, started = mp.Pool(2), mp.Queue()
      local list = {}
      for i = 1, 10 do
        list[i] = pool:apply_async(function()
          started:put(mp.current_process().pid)
          if i == 1 then while true do end end
          mp.sleep(60)
        end)
      end
      local pids = { started:get(), started:get() }
      local from = now()
      pool:terminate()
      pool:join()
      assert(now() - from < 8, "terminate took " .. now() - from .. " s")
      for i = 1, 10 do
        local good, err = pcall(list[i].get, list[i], 5)
        eq(good, false)
        eq(err.kind, "terminated")
      end
      for _, pid in ipairs(pids) do eq(dead(pid), true) end]]
  end)

  it("is terminated by the end of the scope of a close variable", function()
    ok[[
      local pid
      do
        local pool <close> = mp.Pool(1)
        local q = mp.Queue()
        pool:apply_async(function() q:put(mp.current_process().pid) mp.sleep(60) end)
        pid = q:get()
      end
      wait_dead(pid)]]
  end)

  it("that is no longer used does not keep the program from ending", function()
    prints("end\n", [[
      local pool = mp.Pool(2)
      pool:apply(function() end)
      pool:apply_async(function() mp.sleep(60) end)
      print "end"]], { timeout = 15 })
  end)

  it("suspends only the task that waits for a result", function()
    ok[[
      local co = mp.co
      local pool <close> = mp.Pool(2)
      local go, ticks = mp.Event(), 0
      local t = co.spawn(function() return pool:apply(function() go:wait() return "done" end) end)
      for _ = 1, 5 do co.sleep(0.001) ticks = ticks + 1 end
      go:set()
      eq(t:get(), "done")
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = co.spawn(function() return pool:map(function(x) return x * i end, { 1, 2, 3 }) end)
      end
      for i = 1, 5 do eq(tasks[i]:get(), { i, 2 * i, 3 * i }) end]]
  end)

  it("calls back once, with the results or with the error", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local seen = {}
      local r = pool:apply_async(function(x) return x, x + 1 end, { 1 }, {
        callback = function(a, b) seen[#seen + 1] = { "result", a, b } end,
        error_callback = function() seen[#seen + 1] = { "error" } end,
      })
      r:get()
      until_true(function() return #seen == 1 end)
      local bad = pool:apply_async(function() error("the reason") end, {}, {
        callback = function() seen[#seen + 1] = { "result" } end,
        error_callback = function(err) seen[#seen + 1] = { "error", err.message } end,
      })
      bad:wait()
      until_true(function() return #seen == 2 end)
      mp.sleep(0)
      eq(seen[1], { "result", 1, 2 })
      eq(seen[2][1], "error")
      assert(seen[2][2]:find("the reason", 1, true))
      eq(#seen, 2)]]
  end)

  it("goes on after a callback that raises", function()
    local r = run[[
      local pool <close> = mp.Pool(1)
      pool:apply_async(function() return 1 end, {}, { callback = function() error("in the callback") end }):wait()
      eq(pool:apply(function() return 2 end), 2)
      print "on"]]
    assert.equal("on\n", r.stdout)
    assert.equal(0, r.status)
    assert.truthy(r.stderr:find("in the callback", 1, true), r.stderr)
  end)

  it("lets a worker start processes and pools of its own", function()
    ok[[
      local pool <close> = mp.Pool(1)
      eq(pool:apply(function()
        local q = mp.Queue()
        local p = mp.Process(function() q:put("grandchild") end)
        p:start()
        local v = q:get()
        p:join()
        return v
      end), "grandchild")
      eq(pool:apply(function()
        local inner <close> = mp.Pool(2)
        return inner:map(function(x) return x + 1 end, { 1, 2 })
      end), { 2, 3 })]]
  end)

  it("ends its workers when its process is killed with kill -9", function()
    local r = run[[
      local pool = mp.Pool(2)
      local q = mp.Queue()
      pool:apply_async(function() q:put(mp.current_process().pid) while true do end end)
      print(q:get())
      print(pool:apply(function() return mp.current_process().pid end))
      kill(0)
      mp.sleep(60)]]
    local count = 0
    for pid in r.stdout:gmatch("%d+") do
      count = count + 1
      assert.is_true(support.eventually(function() return support.dead(pid) end), "worker " .. count .. " lives")
    end
    assert.equal(2, count)
  end)

  it("writes what its workers print", function()
    local r = ok[[
      local pool <close> = mp.Pool(2)
      pool:map(function(i) print("task " .. i) end, { 1, 2, 3 })]]
    for i = 1, 3 do assert.truthy(r.stdout:find("task " .. i .. "\n", 1, true), r.stdout) end
  end)

  it("says what it is", function()
    ok[[
      local pool <close> = mp.Pool(2)
      assert(tostring(pool):find("^mp%.Pool"), tostring(pool))]]
  end)
end)

describe("an error in a task", function()
  it("is raised by get as an error object, each time", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local r = pool:apply_async(function()
        error("the reason")
      end)
      eq(r:wait(), true)
      eq(r:ready(), true) eq(r:successful(), false)
      for _ = 1, 2 do
        local good, err = pcall(r.get, r)
        eq(good, false)
        eq(err.kind, "error")
        assert(err.message:find("script.lua:3: the reason", 1, true), err.message)
        assert(err.value:find("the reason", 1, true))
        assert(err.traceback:find("stack traceback", 1, true), err.traceback)
        assert(err.traceback:find("script.lua:3", 1, true), err.traceback)
        eq(math.type(err.pid), "integer")
        local text = tostring(err)
        for _, part in ipairs{ "the reason", "stack traceback", "script.lua:3", tostring(err.pid) } do
          assert(text:find(part, 1, true), text)
        end
      end]]
  end)

  it("is raised by apply and by map", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local good, err = pcall(pool.apply, pool, function() error({ code = 7 }) end)
      eq(good, false)
      eq(err.value, { code = 7 })
      good, err = pcall(pool.map, pool, function(x) if x == 3 then error("at three") end return x end, { 1, 2, 3, 4 })
      eq(good, false)
      assert(tostring(err):find("at three", 1, true))
      eq(pool:map(function(x) return x end, { 1, 2 }), { 1, 2 })]]
  end)

  it("may be nil, or any value", function()
    ok[[
      local pool <close> = mp.Pool(1)
      for _, v in ipairs{ 1, true, "text" } do
        local good, err = pcall(pool.apply, pool, function() error(v, 0) end)
        eq(good, false) eq(err.value, v)
      end
      local good, err = pcall(pool.apply, pool, function() error() end)
      local nothing = nil
      if _VERSION ~= "Lua 5.4" then nothing = "<no error object>" end
      eq(good, false) eq(err.kind, "error") eq(err.value, nothing)]]
  end)

  it("leaves the worker alive", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local pid = pool:apply(function() return mp.current_process().pid end)
      pcall(pool.apply, pool, function() error("x") end)
      eq(pool:apply(function() return mp.current_process().pid end), pid)]]
  end)

  it("prints its message when it is not caught", function()
    support.ends(1, { "the reason", "stack traceback" }, [[
      local pool = mp.Pool(1)
      pool:apply(function() error("the reason") end)]])
  end)
end)

describe("a whole pool #later", function()
  it("has map_async, starmap and starmap_async", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local r = pool:map_async(function(x) return x * 2 end, { 1, 2, 3 })
      eq(r:get(), { 2, 4, 6 })
      eq(r:successful(), true)
      eq(pool:starmap(function(a, b) return a + b end, { { 1, 2 }, { 3, 4 } }), { 3, 7 })
      eq(pool:starmap_async(math.max, { { 1, 2 }, { 4, 3 } }):get(), { 2, 4 })
      local bad = pool:map_async(function(x) error("at " .. x) end, { 1 })
      raises("at 1", bad.get, bad)]]
  end)

  it("gives the results of imap in order, of imap_unordered with their index", function()
    ok[[
      local pool <close> = mp.Pool(3)
      local seen = {}
      for i, v in pool:imap(function(x) return x * x end, { 1, 2, 3, 4 }) do seen[#seen + 1] = { i, v } end
      eq(seen, { { 1, 1 }, { 2, 4 }, { 3, 9 }, { 4, 16 } })
      local got, n = {}, 0
      for i, v in pool:imap_unordered(function(x) return x * x end, { 1, 2, 3, 4 }) do got[i] = v n = n + 1 end
      eq(got, { 1, 4, 9, 16 })
      eq(n, 4)
      for _ in pool:imap(function() end, {}) do error("no item") end]]
  end)

  it("gives the results of imap as they arrive", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local go = mp.Event()
      local next_, s, c = pool:imap(function(i) if i == 3 then go:wait() end return i end, { 1, 2, 3 })
      local i, v = next_(s, c)
      eq({ i, v }, { 1, 1 })
      i, v = next_(s, i)
      eq({ i, v }, { 2, 2 })
      go:set()
      eq({ next_(s, i) }, { 3, 3 })]]
  end)

  it("takes an endless iterator for imap, and holds a bounded number in flight", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local given, seen = 0, 0
      local function numbers() given = given + 1 return given end
      for i, v in pool:imap(function(x) return x * 2 end, numbers) do
        eq(v, i * 2)
        seen = seen + 1
        assert(given - seen < 5000, "too many in flight: " .. given - seen)
        if seen == 1000 then break end
      end]]
  end)

  it("raises a failing item of imap at its place, and goes on", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local f, s, c = pool:imap(function(x) if x == 2 then error("two") end return x end, { 1, 2, 3 })
      eq(select(2, f(s, c)), 1)
      raises("two", f, s, 1)
      eq(select(2, f(s, 2)), 3)]]
  end)

  it("calls the initializer once in each worker", function()
    ok[[
      local n = mp.Value("i", 0)
      local pool <close> = mp.Pool{ processes = 2, initializer = function(x) ready = x n:add(1) end, initargs = { 5 } }
      eq(pool:map(function() return ready end, { 1, 2, 3, 4 }), { 5, 5, 5, 5 })
      assert(n.value <= 2)]]
  end)

  it("makes a failing initializer the error of the first call, after a few tries", function()
    ok[[
      local n = mp.Value("i", 0)
      local pool <close> = mp.Pool{ processes = 2, initializer = function() n:add(1) error("no start") end }
      raises("no start", pool.apply, pool, function() end)
      assert(n.value < 50, n.value .. " workers were started")]]
  end)

  it("replaces a worker after maxtasksperchild", function()
    ok[[
      local pool <close> = mp.Pool{ processes = 1, maxtasksperchild = 2 }
      local pids = {}
      for i = 1, 6 do pids[i] = pool:apply(function() return mp.current_process().pid end) end
      eq(pids[1], pids[2]) eq(pids[3], pids[4]) eq(pids[5], pids[6])
      assert(pids[2] ~= pids[3] and pids[4] ~= pids[5])
      local list = {}
      for i = 1, 20 do list[i] = i end
      eq(pool:map(function(x) return x end, list), list)
      pool:close() pool:join()]]
  end)

  it("cancels what is queued and what runs", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local started, ran = mp.Event(), mp.Event()
      local running = pool:apply_async(function() started:set() while true do end end)
      local queued = pool:apply_async(function() ran:set() end)
      started:wait()
      eq(queued:cancel(), true)
      eq(running:cancel(), true)
      for _, r in ipairs{ queued, running } do
        local good, err = pcall(r.get, r, 10)
        eq(good, false) eq(err.kind, "cancelled")
      end
      local done = pool:apply_async(function() return 1 end)
      eq(done:get(10), 1)
      eq(done:cancel(), false)
      eq(ran:is_set(), false)]]
  end)

  it("stops a task over its timeout: close variables run, then the worker is killed", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local closed = mp.Event()
      local r = pool:apply_async(function()
        local x <close> = setmetatable({}, { __close = function() closed:set() end })
        while true do end
      end, {}, { timeout = 0.2 })
      local good, err = pcall(r.get, r, 10)
      eq(good, false) eq(err.kind, "timeout")
      eq(closed:wait(10), true)
      r = pool:apply_async(function()
        while true do pcall(function() while true do end end) end
      end, {}, { timeout = 0.2 })
      good, err = pcall(r.get, r, 15)
      eq(good, false) eq(err.kind, "timeout")
      eq(pool:apply(function() return "on" end), "on")]]
  end)

  it("terminates workers that are stopped", function()
    ok[[
      local pool = mp.Pool(2)
      local q = mp.Queue()
      for _ = 1, 2 do pool:apply_async(function() q:put(mp.current_process().pid) mp.sleep(60) end) end
      local a, b = q:get(), q:get()
      kill(a, "STOP") kill(b, "STOP")
      local from = now()
      pool:terminate() pool:join()
      assert(now() - from < 8)
      eq(dead(a), true) eq(dead(b), true)]]
  end)

  it("reports progress to a function", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local last
      pool:map(function(x) return x end, { 1, 2, 3, 4 }, {
        progress = function(done, total, failed) last = { done, total, failed } end,
      })
      eq(last, { 4, 4, 0 })]]
  end)

  it("draws no bar where stderr is not a terminal and the wait is short", function()
    ok[[
      local pool <close> = mp.Pool(2)
      eq(pool:map(function(x) return x end, { 1, 2 }, { progress = true }), { 1, 2 })]]
  end)
end)
