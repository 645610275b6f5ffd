local support = require "spec.support"
local ok, run, ends = support.ok, support.run, support.ends

describe("what a pool takes and gives", function()
  it("is the item alone, without a second argument, unless a value is shared", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local function count(...) return select("#", ...) end
      eq(pool:map(count, { 1, 2 }), { 1, 1 })
      eq(pool:map(math.max, { 3, 4 }), { 3, 4 })
      eq(pool:map(count, { 1, 2 }, { shared = 5 }), { 2, 2 })
      eq(pool:map(function(x, s) return s end, { 1, 2 }, { shared = false }), { false, false })
      local table_ = {}
      for i = 1, 1000 do table_[i] = i * 2 end
      eq(pool:map(function(x, t) return t[x] end, { 1, 500 }, { shared = table_ }), { 2, 1000 })
      eq(pool:starmap(function(t, a, b) return t[a] + b end, { { 1, 1 }, { 2, 2 } }, { shared = table_ }), { 3, 6 })]]
  end)

  it("may have holes in a starmap's lists, and in results", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local function f(...) return select("#", ...) * 100 + (select(3, ...) or 0) end
      eq(pool:starmap(f, { { 1, nil, 3, n = 4 }, table.pack(nil, nil, 5), { n = 0 } }), { 403, 305, 0 })
      local got = pool:map(function(x) if x % 2 == 0 then return x end end, { 1, 2, 3, 4 }, { chunksize = 4 })
      eq(got[1], nil) eq(got[2], 2) eq(got[3], nil) eq(got[4], 4)
      eq(table.pack(pool:apply(function(...) return ... end, table.pack(nil, 2, nil))), table.pack(nil, 2, nil))
      raises({ "starmap", "list of arguments" }, pool.starmap, pool, f, { 5 })]]
  end)

  it("is reported as misuse with the script's line, and nothing has happened", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local f = function() end
      for _, call in ipairs{
        function() pool:apply(5) end,
        function() pool:apply_async(f, 5) end,
        function() pool:apply_async(f, { coroutine.create(f) }) end,
        function() local c = coroutine.create(f) pool:apply_async(function() return c end) end,
        function() pool:map(f) end,
        function() pool:map(f, {}, 5) end,
        function() pool:map(f, {}, { chunks = 5 }) end,
        function() pool:map(f, {}, { chunksize = 0 }) end,
        function() pool:map_async(f, {}, { timeout = -1 }) end,
        function() pool:starmap_async(f, {}, { timeout = 0/0 }) end,
        function() pool:map_async(f, {}, { retries = 1.5 }) end,
        function() pool:map_async(f, {}, { progress = 5 }) end,
        function() pool:imap(f, 5) end,
        function() pool:imap(f, {}, { callback = f }) end,
        function() pool:imap_unordered(5, {}) end,
        function() pool:resize(0) end,
        function() pool.close() end,
        function() pool.apply({}, f) end,
        function() pool:join() end,
      } do
        local good, err = pcall(call)
        eq(good, false)
        assert(tostring(err):find("script.lua:%d+: "), tostring(err))
      end
      eq(pool:stats().outstanding, 0)
      eq(pool:apply(function() return "on" end), "on")]]
  end)

  it("names the item of a map that cannot be sent, and runs the others", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local n = mp.Value("i", 0)
      local list = { 1, coroutine.create(print), 3 }
      local good, err = pcall(pool.map, pool, function() n:add(1) end, list, { chunksize = 3 })
      eq(good, false)
      assert(err.message:find("items[2]", 1, true), err.message)
      eq(n.value, 2)]]
  end)

  it("is that item's error when a result cannot be sent", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local step, s = pool:imap(function(i) return i == 2 and coroutine.create(print) or i end, { 1, 2, 3 },
        { chunksize = 3 })
      eq(select(2, step(s)), 1)
      raises({ "cannot be sent", "coroutine" }, step, s)
      eq(select(2, step(s)), 3)
      local good, err = pcall(pool.apply, pool, function() error{ print, coroutine.create(print) } end)
      eq(good, false) eq(err.kind, "error") eq(err.value, nil)
      good, err = pcall(pool.apply, pool, function() return print, coroutine.create(print) end)
      eq(good, false) eq(err.kind, "error")
      eq(pool:apply(function() return 1 end), 1)]]
  end)

  it("is that task's error when it cannot be received, on either side", function()
    ok[[
      local pool <close> = mp.Pool(1)
      eq(pool:apply(function() return 1 end), 1)
      local P = mp.register("point", { __name = "point" })
      local good, err = pcall(pool.apply, pool, function(p) return p end, { setmetatable({}, P) })
      eq(good, false) assert(err.message:find("cannot be received", 1, true), err.message)
      good, err = pcall(pool.apply, pool, function()
        return setmetatable({}, require("mpengine").register("other", {}))
      end)
      eq(good, false) assert(err.message:find("cannot be received", 1, true), err.message)
      eq(pool:apply(function() return 1 end), 1)]]
  end)

  it("is a traceback with the script's own functions only", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local function inner() error("here") end
      local function outer() inner() end
      for _, call in ipairs{
        function() pool:apply(outer) end,
        function() pool:map(outer, { 1, 2 }) end,
        function() pool:starmap(function() outer() end, { {} }) end,
      } do
        local good, err = pcall(call)
        eq(good, false)
        assert(err.traceback:find("script.lua:3:", 1, true), err.traceback)
        for line in err.traceback:gmatch("\n([^\n]+)") do
          assert(line:find("script.lua", 1, true) or line:find("'error'", 1, true), err.traceback)
        end
      end]]
  end)
end)

describe("the results of a pool", function()
  it("are taken when the call is made, and available to several tasks", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local go = mp.Event()
      local first = pool:apply_async(function() go:wait() end)
      local t = { 1, { 2 } }
      local r = pool:apply_async(function(x) return x[2][1] end, { t })
      t[2][1] = 3
      local tasks, calls = {}, 0
      for i = 1, 5 do tasks[i] = mp.co.spawn(function() return r:get() end) end
      go:set()
      for i = 1, 5 do eq(tasks[i]:get(), 2) end
      eq(r:get(), 2)]]
  end)

  it("call back exactly once, whichever task asks, and the pool may be used in the callback", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local calls, done = 0, 0
      local r = pool:map_async(function(x) return x end, { 1, 2, 3 }, { callback = function(list)
        calls = calls + 1
        eq(list, { 1, 2, 3 })
        eq(pool:apply(function() return "inside" end), "inside")
        done = done + 1
      end })
      r:get() r:get() r:wait()
      until_true(function() return done == 1 end)
      eq(calls, 1)]]
  end)

  it("of far more calls than the queue has places for all arrive", function()
    ok([[
      local pool <close> = mp.Pool(2)
      local list = {}
      local long = pool:apply_async(function() mp.sleep(0.5) return "long" end)
      for i = 1, 40000 do list[i] = pool:apply_async(function(x, t) return x + t[1] end, { i, { 1 } }) end
      for i = 1, 40000 do eq(list[i]:get(30), i + 1) end
      eq(long:get(), "long")]], { timeout = 60 })
  end)

  it("of a million items arrive in order, in bounded memory", function()
    ok([[
      local pool <close> = mp.Pool(2)
      local list = {}
      for i = 1, 1000000 do list[i] = i end
      local used = mp.stats().arena.used
      local got = pool:map(function(x) return x + 1 end, list)
      for i = 1, 1000000 do if got[i] ~= i + 1 then error("item " .. i) end end
      eq(#got, 1000000)
      local grown = mp.stats().arena.used - used
      assert(grown < 16 * 2 ^ 20, grown .. " bytes of shared memory")]], { timeout = 60 })
  end)

  it("of an imap may come from a source that waits, and an error of the source is raised", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local i = 0
      local function slow() mp.sleep(0.001) i = i + 1 return i <= 20 and i or nil end
      local sum = 0
      for _, v in pool:imap(function(x) return x end, slow) do sum = sum + v end
      eq(sum, 210)
      raises("no more", function()
        local function source(_, c) if c == 3 then error("no more") end return (c or 0) + 1 end
        for i in pool:imap(function(x) return x end, source) do assert(i <= 3) end
      end)
      eq(pool:apply(function() return 1 end), 1)]]
  end)

  it("of an imap that was left early are dropped, and the pool goes on", function()
    ok[[
      local pool <close> = mp.Pool(2)
      for _ = 1, 50 do
        for i in pool:imap_unordered(function(x) return x end, function(_, c) return (c or 0) + 1 end) do
          if i then break end
        end
      end
      eq(pool:map(function(x) return x end, { 1, 2 }), { 1, 2 })
      until_true(function() return pool:stats().outstanding == 0 end)]]
  end)

  it("of an imap end with the reason when the pool is terminated", function()
    ok[[
      local pool = mp.Pool(1)
      local step, s = pool:imap(function(x) if x > 1 then mp.sleep(60) end return x end, { 1, 2, 3 })
      eq({ step(s) }, { 1, 1 })
      mp.co.spawn(function() mp.sleep(0.05) pool:terminate() end)
      local good, err = pcall(step, s)
      eq(good, false) eq(err.kind, "terminated")
      pool:join()]]
  end)
end)

describe("the life of a pool", function()
  it("starts workers when there is work for them", function()
    ok[[
      local pool <close> = mp.Pool(4)
      eq(#pool:stats().workers, 1)
      pool:apply(function() end)
      until_true(function() mp.sleep(0) return #pool:stats().workers == 4 end)]]
  end)

  it("shows what its workers do", function()
    ok[[
      local pool <close> = mp.Pool(1)
      pool:map(function(x) return x end, { 1, 2, 3 }, { chunksize = 3 })
      local started, go = mp.Event(), mp.Event()
      local r = pool:apply_async(function() started:set() go:wait() end)
      started:wait()
      mp.sleep(0.02)
      local s = pool:stats()
      local w = s.workers[1]
      eq(w.state, "busy") eq(w.tasks, 3) eq(math.type(w.task), "integer")
      assert(w.seconds >= 0.02 and w.busy > 0 and w.memory > 100000 and w.pid > 0)
      eq(s.outstanding, 1) eq(s.completed, 1)
      go:set()
      r:get()
      eq(pool:stats().workers[1].state, "idle")]]
  end)

  it("counts a chunk as one task for maxtasksperchild", function()
    ok[[
      local pool <close> = mp.Pool{ processes = 1, maxtasksperchild = 1 }
      local list = {}
      for i = 1, 20 do list[i] = i end
      local pids, n = {}, 0
      for _, pid in ipairs(pool:map(function() return mp.current_process().pid end, list, { chunksize = 5 })) do
        if not pids[pid] then pids[pid], n = true, n + 1 end
      end
      eq(n, 4)]]
  end)

  it("belongs to its own process: a child neither uses nor ends it", function()
    ok[[
      mp.set_start_method("fork")
      pool = mp.Pool(1) -- a global, which a forked child has too
      local q = mp.Queue()
      local p = P(function()
        q:put(pcall(pool.apply, pool, print) == false and pcall(pool.terminate, pool) == false)
        do local left <close> = pool end
      end)
      p:join()
      eq(p.exitcode, 0) eq(q:get(), true)
      eq(pool:apply(function() return "on" end), "on")]]
  end)

  it("ends at once when it is terminated while its workers start, fail or are stopped", function()
    ok[[
      for _ = 1, 10 do
        local pool = mp.Pool(3)
        for i = 1, 5 do pool:apply_async(function() mp.sleep(60) end) end
        local from = now()
        pool:terminate() pool:join()
        assert(now() - from < 30)
      end]]
  end)

  it("is the same under every start method", function()
    for _, method in ipairs{ "fork", "spawn", "forkserver" } do
      ok([[
        mp.set_start_method("]] .. method .. [[")
        local base = 10
        local pool <close> = mp.Pool{ processes = 2, initializer = function(x) ready = x end, initargs = { 5 } }
        eq(pool:apply(function(x) return x + base + ready end, { 1 }), 16)
        local list, want = {}, {}
        for i = 1, 200 do list[i], want[i] = i, i * 2 end
        eq(pool:map(function(x) return x * 2 end, list), want)
        eq(pool:starmap(math.max, { { 1, 2 } }), { 2 })
        for i, v in pool:imap(function(x) return -x end, { 1, 2, 3 }) do eq(v, -i) end
        local good, err = pcall(pool.apply, pool, function() os.exit(3) end)
        eq(err.kind, "worker_died") eq(err.exitcode, 3)
        good, err = pcall(pool.apply, pool, function() kill(0) end)
        eq(err.kind, "worker_died") eq(err.signal, 9)
        local r = pool:apply_async(function() while true do end end, {}, { timeout = 0.1 })
        good, err = pcall(r.get, r, 10)
        eq(err.kind, "timeout")
        eq(pool:apply(function() local inner <close> = mp.Pool(1) return inner:apply(function() return 7 end) end), 7)
        pool:close() pool:join()]], { timeout = 40 })
    end
  end)
end)

describe("the progress of a map", function()
  it("is reported after each message, with the failures, and the last time before the result", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local seen = {}
      pcall(pool.map, pool, function(x) if x == 2 then error("x") end end, { 1, 2, 3, 4 }, {
        chunksize = 1, progress = function(...) seen[#seen + 1] = { ... } end,
      })
      eq(#seen, 4)
      for i = 1, 4 do eq(seen[i][1], i) eq(seen[i][2], 4) end
      eq(seen[4][3], 1)]]
  end)

  it("may wait, use the pool, and raise", function()
    local r = run[[
      local pool <close> = mp.Pool(1)
      local n = 0
      eq(pool:map(function(x) return x end, { 1, 2 }, { chunksize = 1, progress = function()
        local one = pool:apply(function() return 1 end)
        n = n + one
        error("in progress")
      end }), { 1, 2 })
      until_true(function() return n == 2 end)
      print "on"]]
    assert.equal("on\n", r.stdout)
    assert.truthy(r.stderr:find("in progress", 1, true), r.stderr)
  end)

  it("is a bar on a terminal, with an end", function()
    local file = os.tmpname()
    support.write_file(file, [[
      local mp = require "mpengine"
      local pool <close> = mp.Pool(1)
      pool:map(function() mp.sleep(0.02) end, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, { progress = true, chunksize = 1 })]])
    local text = support.shell(("script -qec '%s %s' /dev/null < /dev/null"):format(support.command, file))
    os.remove(file)
    assert.truthy(text:find("\r[#", 1, true), text)
    assert.truthy(text:find("] 10/10 .*/s  elapsed 0:00  left 0:00"), text)
    assert.truthy(text:find("\n$"), text)
  end)
end)

describe("an uncaught error of a pool", function()
  it("is shown with message and traceback, and ends the program", function()
    ends(1, { "script.lua:2: the reason", "stack traceback" }, [[
      local pool = mp.Pool(1)
      pool:map(function() error("the reason") end, { 1 })]])
  end)
end)
