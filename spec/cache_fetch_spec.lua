local support = require "spec.support"
local ok, misuse = support.ok, support.misuse
local mp = require "mpengine"

describe("fetch of a cache", function()
  it("gives what is there, or what f makes of the key, which is kept", function()
    local c = mp.Cache{ size = "1M", ttl = 50 }
    local calls = 0
    local function f(k) calls = calls + 1 return { k } end
    assert.same({ "a" }, c:fetch("a", f))
    assert.same({ "a" }, c:fetch("a", f))
    assert.same({ "a" }, c:get "a")
    assert.equal(1, calls)
    assert.equal(1, c:stats().computed)
    assert.is_true(c:ttl "a" <= 50)
    c:fetch("b", f, { ttl = 500 })
    assert.is_true(c:ttl "b" > 400)
    assert.is_false(c:fetch("no", function() return false end))
    assert.is_false(c:fetch("no", error))
    local callable = setmetatable({}, { __call = function(_, k) return k .. "!" end })
    assert.equal("c!", c:fetch("c", callable))
    assert.equal("c!", c:fetch("c", callable))
  end)

  it("raises the error of f, and keeps nothing", function()
    local c = mp.Cache{ size = "1M" }
    local passed, err = pcall(c.fetch, c, "a", function() error "boom" end)
    assert.is_false(passed)
    assert.truthy(err:match "cache_fetch_spec%.lua:%d+: boom$")
    passed, err = pcall(c.fetch, c, "a", function() error { code = 5 } end)
    assert.is_false(passed)
    assert.same({ code = 5 }, err)
    assert.is_nil(c:get "a")
    assert.equal(1, c:fetch("a", function() return 1 end))
    assert.equal(1, c:stats().computed)
  end)

  it("refuses an f that returns nil, and what cannot be stored", function()
    local c = mp.Cache{ size = "64K" }
    misuse({ "Cache:fetch", "nil" }, c.fetch, c, "a", function() end)
    misuse({ "Cache:fetch", "larger" }, c.fetch, c, "a", function() return ("x"):rep(65536) end)
    misuse({ "cannot send a coroutine" }, c.fetch, c, "a", function() return coroutine.create(print) end)
    assert.equal(1, c:fetch("a", function() return 1 end))
  end)

  it("refuses the same key inside its own f, and not another one", function()
    local c = mp.Cache{ size = "64K" }
    misuse({ "Cache:fetch", "key" }, c.fetch, c, "a", function()
      return c:fetch("a", function() return 1 end)
    end)
    assert.equal(3, c:fetch("a", function() return c:fetch("b", function() return 2 end) + 1 end))
  end)

  it("checks its arguments", function()
    local c = mp.Cache{ size = "64K" }
    misuse({ "Cache:fetch", "f must be a function" }, c.fetch, c, "a", 5)
    misuse({ "Cache:fetch", "key" }, c.fetch, c, nil, print)
    misuse({ "Cache:fetch", "table" }, c.fetch, c, "a", print, 5)
    c:set("there", 1)
    misuse({ "Cache:fetch", "table" }, c.fetch, c, "there", print, 5)
    misuse({ "Cache:fetch", "f must be a function" }, c.fetch, c, "there", {})
    misuse({ "Cache:fetch", "ttl" }, c.fetch, c, "a", print, { ttl = 0 })
    misuse({ "Cache:fetch", "stale" }, c.fetch, c, "a", print, { stale = -1 })
    misuse({ "Cache:fetch", "timeout" }, c.fetch, c, "a", print, { timeout = -1 })
    misuse({ "Cache:fetch", "unknown option 'tll'" }, c.fetch, c, "a", print, { tll = 1 })
  end)

  it("is computed by one of many tasks", function()
    ok[[
      local c, co = mp.Cache{ size = "1M" }, mp.co
      local calls, other = 0, 0
      local ticks = co.spawn(function() for i = 1, 10 do co.sleep(0.001) other = other + 1 end end)
      local tasks = {}
      for i = 1, 20 do
        tasks[i] = co.spawn(function()
          return c:fetch("k", function() calls = calls + 1 ticks:join() return { calls } end)
        end)
      end
      for _, t in ipairs(tasks) do eq(t:get(), { 1 }) end
      eq(calls, 1) eq(c:stats().waited, 19) eq(c:stats().computed, 1)
      eq(other, 10)]]
  end)

  it("is computed by one of many processes", function()
    ok[[
      local c = mp.Cache{ size = "1M" }
      local calls, gate = mp.Value("i", 0), mp.Barrier(5)
      local list = {}
      for i = 1, 5 do
        list[i] = P(function()
          for round = 1, 20 do
            gate:wait()
            local v = c:fetch(round, function(k) calls:add(1) mp.sleep(0.002) return { k, "value" } end)
            eq(v, { round, "value" })
          end
        end)
      end
      all(list)
      eq(calls.value, 20)
      eq(c:stats().computed, 20)]]
  end)

  it("gives its error to all that waited, and to no later call", function()
    ok[[
      local c = mp.Cache{ size = "1M" }
      local calls, in_f, go = mp.Value("i", 0), mp.Event(), mp.Event()
      local function f()
        calls:add(1) in_f:set() go:wait()
        error({ what = "boom" })
      end
      local list = {}
      for i = 1, 4 do
        list[i] = P(function()
          local passed, err = pcall(c.fetch, c, "k", f)
          assert(not passed) eq(err, { what = "boom" })
        end)
      end
      in_f:wait()
      until_true(function() return c:stats().waited == 3 end)
      go:set()
      all(list)
      eq(calls.value, 1)
      eq(c:get "k", nil)
      eq(c:fetch("k", function() return 5 end), 5)]]
  end)

  it("gives the text of an error that cannot be sent", function()
    ok[[
      local c, co = mp.Cache{ size = "1M" }, mp.co
      local first = co.spawn(function()
        return pcall(c.fetch, c, "k", function() co.sleep(0.01) error(coroutine.create(print)) end)
      end)
      local second = co.spawn(function() return pcall(c.fetch, c, "k", print) end)
      local _, err = first:get() eq(type(err), "thread")
      _, err = second:get() assert(err:find "^thread")]]
  end)

  it("is computed by a waiter when the process that computes is killed", function()
    ok[[
      local c = mp.Cache{ size = "1M" }
      local in_f = mp.Queue()
      local list = {}
      for i = 1, 4 do
        list[i] = P(function()
          eq(c:fetch("k", function()
            local calls = c:incr("calls", 1, 0)
            in_f:put(mp.current_process().pid)
            if calls < 4 then mp.sleep(100) end
            return "value"
          end), "value")
        end)
      end
      local killed = {}
      for i = 1, 3 do
        local pid = in_f:get()
        until_true(function() return c:stats().waited == 3 end)
        killed[pid] = true
        kill(pid)
      end
      local n = 0
      for _, p in ipairs(list) do
        p:join()
        if killed[p.pid] then eq(p.exitcode, -9) else eq(p.exitcode, 0) n = n + 1 end
      end
      eq(n, 1)
      eq(c:get "calls", 4)]]
  end)

  it("is computed by another task when the one that computes is cancelled", function()
    ok[[
      local c, co = mp.Cache{ size = "1M" }, mp.co
      local runs = {}
      local function slow(name) return function() runs[name] = true co.sleep(100) end end
      local first = co.spawn(c.fetch, c, "k", slow "first")
      local second = co.spawn(c.fetch, c, "k", slow "second")
      local third = co.spawn(c.fetch, c, "k", function() return 3 end)
      until_true(function() return runs.first and c:stats().waited == 2 end)
      first:kill()
      until_true(function() return runs.second end)
      second:kill()
      eq(third:get(), 3)
      eq({ first:get() }, { nil, "killed" })
      eq({ second:get() }, { nil, "killed" })
      local bounded = co.spawn(co.with_timeout, 0.02, c.fetch, c, "j", slow "bounded")
      co.sleep(0)
      eq(c:fetch("j", function() return 4 end), 4)
      eq({ bounded:get() }, { nil, "timeout" })]]
  end)

  it("goes on when a task that waits is cancelled or killed", function()
    ok[[
      local c, co = mp.Cache{ size = "1M" }, mp.co
      local go = mp.Event()
      local first = co.spawn(c.fetch, c, "k", function() go:wait() return 1 end)
      co.sleep(0)
      local second = co.spawn(c.fetch, c, "k", print)
      local p = P(function() c:fetch("k", print) end)
      until_true(function() return c:stats().waited == 2 end)
      second:kill() second:join()
      kill(p.pid) p:join()
      go:set()
      eq(first:get(), 1)
      eq(c:get "k", 1)]]
  end)

  it("is bounded by timeout for those that wait", function()
    ok[[
      local c, co = mp.Cache{ size = "1M" }, mp.co
      local go = mp.Event()
      local first = co.spawn(c.fetch, c, "k", function() go:wait() return 1 end, { timeout = 0 })
      co.sleep(0)
      eq({ c:fetch("k", print, { timeout = 0 }) }, { nil, "timeout" })
      local from = now()
      eq({ c:fetch("k", print, { timeout = 0.05 }) }, { nil, "timeout" })
      late(from, 0.04)
      go:set()
      eq(first:get(), 1)
      eq(c:fetch("k", print, { timeout = 0 }), 1)]]
  end)

  it("gives a stale value to the others while one computes", function()
    ok[[
      local c, co = mp.Cache{ size = "1M", ttl = 0.02 }, mp.co
      local go, opts = mp.Event(), { stale = 100, ttl = 100 }
      c:set("k", "old")
      mp.sleep(0.03)
      eq(c:get "k", nil)
      local first = co.spawn(c.fetch, c, "k", function() go:wait() return "new" end, opts)
      co.sleep(0)
      eq(c:fetch("k", print, opts), "old")
      eq({ c:fetch("k", print, { timeout = 0 }) }, { nil, "timeout" })
      eq({ c:fetch("k", print, { timeout = 0, stale = 0.001 }) }, { nil, "timeout" })
      go:set()
      eq(first:get(), "new")
      eq(c:fetch("k", print, opts), "new")
      eq(c:get "k", "new")]]
  end)

  it("gives the result to those that waited, also when it is not kept for long", function()
    ok[[
      local c = mp.Cache{ size = "64K" }
      local calls, in_f, go = mp.Value("i", 0), mp.Event(), mp.Event()
      local function f() calls:add(1) in_f:set() go:wait() return ("x"):rep(30000) end
      local list = {}
      for i = 1, 3 do
        list[i] = P(function() eq(#c:fetch("k", f, { ttl = 1e-6 }), 30000) end)
      end
      in_f:wait()
      until_true(function() return c:stats().waited == 2 end)
      go:set()
      all(list)
      eq(calls.value, 1)]]
  end)

  it("passes shared objects on", function()
    ok[[
      local c = mp.Cache{ size = "64K" }
      local in_f, go = mp.Event(), mp.Event()
      local p = P(function() c:fetch("k", function() in_f:set() go:wait() return mp.Queue() end):put(7) end)
      in_f:wait()
      local t = mp.co.spawn(c.fetch, c, "k", print)
      until_true(function() return c:stats().waited == 1 end)
      c:clear()
      go:set()
      local q = t:get()
      p:join()
      eq(q:get(), 7)]]
  end)

  it("leaves nothing in shared memory", function()
    ok[[
      local c, co = mp.Cache{ size = "64K" }, mp.co
      local function round(i)
        local tasks = {}
        for n = 1, 3 do
          tasks[n] = co.spawn(pcall, c.fetch, c, i, function()
            co.sleep(0)
            return i % 2 == 0 and error "x" or i
          end)
        end
        co.joinall(tasks)
      end
      for i = 1, 100 do round(i) end
      collectgarbage() collectgarbage()
      local before, objects = mp.stats().arena.used, #mp.stats().objects
      for i = 101, 1000 do round(i) end
      collectgarbage() collectgarbage()
      assert(mp.stats().arena.used - before < 10000)
      eq(#mp.stats().objects, objects)]]
  end)
end)
