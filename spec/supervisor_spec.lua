-- Supervisors: what is started again and when, the order of start and stop, and deaths on every side.
local support = require "spec.support"

-- sleeper(name, more) is a child that sleeps; is(s, name, state) waits for a state; log is a shared list.
local HEAD = [[
  local co, log = mp.co, mp.List()
  local function sleeper(name, more)
    local child = { name = name, target = mp.sleep, args = { 1000 } }
    for k, v in pairs(more or {}) do child[k] = v end
    return child
  end
  local function is(s, name, state) until_true(function() return s:status()[name].state == state end) end
  local function restarted(s, name, times)
    until_true(function()
      local st = s:status()[name]
      return st.restarts >= times and st.state == "running"
    end)
  end
  local function logged()
    local list = {}
    for i = 1, #log do list[i] = log[i] end
    return list
  end
  local QUICK = { 0.01, 0.05 }
  -- A child that writes its name into the log when it gets SIGTERM, and ends.
  local function tidy(name, more)
    local child = sleeper(name, more)
    child.args, child.ready = { name }, true
    child.target = function(me)
      local stop = mp.Event()
      mp.signal("TERM", function() stop:set() end)
      mp.ready()
      stop:wait()
      log:append(me)
    end
    return child
  end
]]
local function run(code, opts) return support.run(HEAD .. code, opts) end

-- What a supervisor reports is on stderr.
local function ok(code, opts)
  local r = run(code, opts)
  assert.equal(0, r.status, r.stderr)
end

describe("a Supervisor", function()
  it("starts its children in order, as daemons of their names", function()
    ok[[
      local list = {}
      for i = 1, 3 do
        list[i] = { name = "child-" .. i, args = { i }, target = function(n)
          local me = mp.current_process()
          log:append { n, me.name, me.daemon, me.pid }
          mp.sleep(1000)
        end }
      end
      local s <close> = mp.Supervisor(list)
      eq(s:start(), s)
      until_true(function() return #log == 3 end)
      local status, seen = s:status(), {}
      for i = 1, 3 do
        local n, name, daemon, pid = table.unpack(log[i])
        seen[n] = true
        eq(name, "child-" .. n) eq(daemon, true)
        eq(status[name], { pid = pid, state = "running", restarts = 0 })
        assert(pid > 0)
      end
      assert(seen[1] and seen[2] and seen[3])
      eq(tostring(s), "mp.Supervisor: supervisor (running, 3 children)")]]
  end)

  it("starts a child again that is killed, and only that one", function()
    ok[[
      local s <close> = mp.Supervisor { sleeper "a", sleeper "b", backoff = QUICK }
      s:start()
      local before = s:status()
      kill(before.a.pid)
      restarted(s, "a", 1)
      local after = s:status()
      assert(after.a.pid ~= before.a.pid)
      eq(after.a.restarts, 1) eq(after.a.exitcode, -9)
      eq(after.b, before.b)]]
  end)

  it("follows the policy of each child", function()
    ok[[
      local ends = {
        good = function() end, exits = function() os.exit(3) end, killed = function() kill(0) end,
      }
      local list, again = { max_restarts = 2, backoff = { 30, 30 } }, {}
      for how, target in pairs(ends) do
        for _, policy in ipairs { "always", "on_error", "never" } do
          local name = how .. " " .. policy
          list[#list + 1] = { name = name, target = target, restart = policy }
          again[name] = policy == "always" or policy == "on_error" and how ~= "good"
        end
      end
      list[#list + 1] = { name = "default", target = ends.good }
      again.default = true
      local s <close> = mp.Supervisor(list)
      s:start()
      for name, wanted in pairs(again) do is(s, name, wanted and "backoff" or "exited") end
      local codes = { good = 0, exits = 3, killed = -9, default = 0 }
      for name, st in pairs(s:status()) do eq(st.exitcode, codes[name:match "%a+"], name) eq(st.pid, nil) end]]
  end)

  it("prints the error of a target as that of any process, and says what it does about it", function()
    local r = run[[
      local s <close> = mp.Supervisor { { name = "web", target = function() error "it broke" end }, name = "shop" }
      s:start()
      is(s, "web", "backoff")]]
    assert.equal(0, r.status)
    assert.truthy(r.stderr:find("Process web:\n.-it broke\nstack traceback:"), r.stderr)
    assert.truthy(r.stderr:find("shop: web ended %(exit code 1%); it starts again in 0%.1%d* s"), r.stderr)
  end)

  it("waits longer before each start, and no longer than the longest pause", function()
    ok[[
      local s <close> = mp.Supervisor {
        { name = "crash", target = function() log:append(mp.now()) os.exit(1) end },
        max_restarts = math.huge, backoff = { 0.04, 0.16 },
      }
      s:start()
      until_true(function() return #log >= 6 end)
      for i, least in ipairs { 0.04, 0.06, 0.12, 0.12, 0.12 } do
        local gap = log[i + 1] - log[i]
        assert(gap >= least, i .. ": " .. gap)
      end
      s:stop()]]
  end)

  it("begins with a short pause again when the child has run for a while", function()
    local r = run[[
      local s <close> = mp.Supervisor { sleeper "a", backoff = { 0.01, 60 } }
      s:start()
      for i = 1, 4 do kill(s:status().a.pid) restarted(s, "a", i) end
      mp.sleep(1.1)
      kill(s:status().a.pid)
      restarted(s, "a", 5)]]
    local pauses = {}
    for pause in r.stderr:gmatch "it starts again in (%S+) s" do pauses[#pauses + 1] = tonumber(pause) end
    assert.equal(0, r.status, r.stderr)
    assert.equal(5, #pauses, r.stderr)
    assert.truthy(pauses[5] <= 0.02, r.stderr) -- it would be 0.08 at least
  end)

  it("stops all when a child ends too often, and run raises", function()
    ok[[
      local s = mp.Supervisor {
        tidy "first", { name = "crash", target = function() log:append "crash" os.exit(7) end }, tidy "last",
        max_restarts = 3, backoff = QUICK,
      }
      local err = raises({ "Supervisor:run", "'crash'", "3 times", "60 s", "exit code 7" }, s.run, s)
      local crashes, rest = 0, {}
      for i = 1, #log do if log[i] == "crash" then crashes = crashes + 1 else rest[#rest + 1] = log[i] end end
      eq(crashes, 4)
      eq(rest, { "last", "first" })
      local st = s:status()
      eq(st.crash, { state = "failed", restarts = 3, exitcode = 7 })
      eq(st.first.state, "stopped") eq(st.first.exitcode, 0)
      eq(tostring(s), "mp.Supervisor: supervisor (failed, 3 children)")
      raises({ "'crash'" }, s.run, s)
      eq(s:stop(), true)]]
  end)

  it("allows no start when max_restarts is 0", function()
    ok[[
      local s = mp.Supervisor { { name = "once", target = function() end }, max_restarts = 0 }
      raises({ "'once'", "0 times" }, s.run, s)
      eq(s:status().once.restarts, 0)]]
  end)

  it("counts the starts of each child alone, and those in the window only", function()
    ok[[
      local s <close> = mp.Supervisor { sleeper "a", sleeper "b", max_restarts = 3, backoff = QUICK }
      s:start()
      for i = 1, 3 do
        for _, name in ipairs { "a", "b" } do kill(s:status()[name].pid) restarted(s, name, i) end
      end
      eq(tostring(s), "mp.Supervisor: supervisor (running, 2 children)")
      local t <close> = mp.Supervisor { sleeper "a", max_restarts = 1, window = 0.05, backoff = { 0.06, 0.06 } }
      t:start()
      for i = 1, 5 do kill(t:status().a.pid) restarted(t, "a", i) end]]
  end)

  it("reports that it gave up when nothing waits in run", function()
    local r = run[[
      local s = mp.Supervisor { { name = "crash", target = function() os.exit(1) end }, max_restarts = 1,
        backoff = QUICK }
      s:start()
      until_true(function() return tostring(s):find "failed" end)]]
    assert.equal(0, r.status)
    assert.truthy(r.stderr:find("supervisor: child 'crash' .-1 times.-all children are stopped"), r.stderr)
  end)

  it("returns from run when no child is to run again", function()
    ok[[
      local s = mp.Supervisor {
        { name = "job", target = function() log:append "done" end, restart = "never" },
        { name = "other", target = function() end, restart = "on_error" },
      }
      s:run()
      eq(#log, 1)
      eq(s:status().job, { state = "exited", restarts = 0, exitcode = 0 })]]
  end)

  it("starts children by every start method", function()
    ok([[
      local function child(out, n) out:put(n) mp.sleep(1000) end
      for _, method in ipairs(mp.get_all_start_methods()) do
        local out = mp.Queue()
        local s = mp.get_context(method).Supervisor { { name = "a", target = child, args = { out, method } },
          { name = "b", target = child, args = { out, method }, method = "fork" }, backoff = QUICK }
        s:start()
        eq(out:get(10), method) eq(out:get(10), method)
        kill(s:status().a.pid)
        eq(out:get(10), method)
        s:stop()
      end]], { timeout = 40 })
  end)

  it("runs in a task, and others go on", function()
    ok[[
      local s = mp.Supervisor { tidy "a", sleeper("b", { target = function() mp.sleep(0.02) end }),
        max_restarts = math.huge, backoff = QUICK }
      local turns = 0
      local runs = co.spawn(s.run, s)
      local ticks = co.spawn(function() while true do co.sleep(0.001) turns = turns + 1 end end)
      restarted(s, "b", 3)
      assert(turns > 20, turns)
      s:stop()
      eq(runs:join(5), true)
      ticks:kill()]]
  end)

  it("closes at the end of a scope", function()
    ok[[
      do local s <close> = mp.Supervisor { tidy "a" } s:start() end
      eq(#log, 1)]]
  end)

  it("gives a child's arguments, nil among them, and fresh ones at each start", function()
    ok[[
      local s <close> = mp.Supervisor { { name = "a", args = { 1, nil, { 3 }, n = 3 }, target = function(a, b, c)
        log:append { a, b == nil, c[1] }
        c[1] = 4
      end }, backoff = QUICK }
      s:start()
      until_true(function() return #log >= 2 end)
      eq(log[1], { 1, true, 3 }) eq(log[2], { 1, true, 3 })]]
  end)
end)

describe("a child that says when it is ready", function()
  it("is waited for before the next one starts", function()
    ok[[
      local go = mp.Event()
      local s <close> = mp.Supervisor {
        { name = "base", ready = true, target = function()
          go:wait() log:append "base is ready" mp.ready() mp.sleep(1000)
        end },
        { name = "user", target = function() log:append "user" mp.sleep(1000) end },
      }
      local starts = co.spawn(s.start, s)
      is(s, "base", "starting")
      eq(s:status().user.state, "new")
      go:set()
      eq(starts:get(), s)
      until_true(function() return #log == 2 end)
      eq(logged(), { "base is ready", "user" })
      eq(s:status().base.state, "running")]]
  end)

  it("is killed and started again when it is not ready in time", function()
    local r = run[[
      local s <close> = mp.Supervisor {
        { name = "slow", ready = 0.1, target = function()
          log:append(1)
          if #log > 1 then mp.ready() end
          mp.sleep(1000)
        end }, backoff = QUICK,
      }
      s:start()
      eq(#log, 2)
      local st = s:status().slow
      eq(st.restarts, 1) eq(st.state, "running") eq(st.exitcode, -15)]]
    assert.equal(0, r.status, r.stderr)
    assert.truthy(r.stderr:find "slow %(pid %d+%) was not ready within 0%.1 s", r.stderr)
  end)

  it("may end before it is ready: start goes on by its policy, or raises when that is too often", function()
    ok[[
      local s <close> = mp.Supervisor {
        { name = "gone", ready = true, restart = "never", target = function() end }, sleeper "b" }
      eq(s:start(), s)
      eq(s:status().gone.state, "exited")
      local t = mp.Supervisor { { name = "crash", ready = true, target = function() os.exit(1) end },
        max_restarts = 2, backoff = QUICK }
      raises({ "Supervisor:start", "'crash'", "2 times" }, t.start, t)]]
  end)

  it("may say so more than once, without a supervisor, or though that does not wait", function()
    ok[[
      mp.ready()
      local p = P(mp.ready) p:join() eq(p.exitcode, 0)
      local s <close> = mp.Supervisor { { name = "a", target = function() mp.ready() mp.ready() log:append(1)
        mp.sleep(1000) end } }
      s:start()
      until_true(function() return #log == 1 end)]]
  end)
end)

describe("stopping a Supervisor", function()
  it("ends the children in the reverse order, one after the other", function()
    ok[[
      local s = mp.Supervisor { tidy "a", tidy "b", tidy "c" }
      s:start()
      eq(s:stop(), true)
      eq(logged(), { "c", "b", "a" })
      for _, st in pairs(s:status()) do eq(st, { state = "stopped", restarts = 0, exitcode = 0 }) end
      eq(s:stop(), true)
      raises({ "Supervisor:start", "before" }, s.start, s)
      raises({ "Supervisor:restart", "not running" }, s.restart, s, "a")]]
  end)

  it("kills a child that ignores SIGTERM when its time is over, and only that one", function()
    ok[[
      local s = mp.Supervisor { tidy "a", { name = "stubborn", ready = true, target = function()
        mp.signal("TERM", "ignore") mp.ready() mp.sleep(1000)
      end }, tidy "c" }
      s:start()
      local began = mp.now()
      s:stop(0.2)
      local took = mp.now() - began
      assert(took >= 0.2 and took < 5, took)
      eq(s:status().stubborn.exitcode, -9)
      eq(logged(), { "c", "a" })
      local own = mp.Supervisor { { name = "stubborn", ready = true, stop = 0.05, target = function()
        mp.signal("TERM", "ignore") mp.ready() mp.sleep(1000)
      end } }
      own:start()
      began = mp.now()
      own:stop()
      assert(mp.now() - began < 5)]]
  end)

  it("reaches a child that is stopped by a signal", function()
    ok[[
      local s = mp.Supervisor { sleeper "a" }
      s:start()
      kill(s:status().a.pid, "STOP")
      s:stop(5)
      eq(s:status().a.exitcode, -15)]]
  end)

  it("ends a start that waits for a child, and starts no more", function()
    ok[[
      local s = mp.Supervisor {
        tidy "a", { name = "never ready", ready = true, target = mp.sleep, args = { 1000 } }, tidy "c" }
      local starts = co.spawn(function() return table.pack(s:start()) end)
      is(s, "never ready", "starting")
      s:stop()
      local r = starts:get() eq(r[1], nil) eq(r[2], "closed")
      eq(logged(), { "a" })
      eq(s:status().c, { state = "stopped", restarts = 0 })]]
  end)

  it("ends the pause of a child that waits for its next start", function()
    ok[[
      local s = mp.Supervisor { { name = "crash", target = function() os.exit(1) end }, backoff = { 60, 60 } }
      s:start()
      is(s, "crash", "backoff")
      local began = mp.now()
      s:stop()
      assert(mp.now() - began < 5)
      eq(s:status().crash, { state = "stopped", restarts = 0, exitcode = 1 })]]
  end)

  it("does the rest although the task that called it has no more time", function()
    ok[[
      local s = mp.Supervisor { tidy "a", { name = "slow", ready = true, target = function()
        local stop = mp.Event()
        mp.signal("TERM", function() stop:set() end)
        mp.ready() stop:wait() mp.sleep(0.3)
      end } }
      s:start()
      eq(select(2, co.with_timeout(0.05, s.stop, s)), "timeout")
      until_true(function() return tostring(s):find "stopped" end)
      eq(logged(), { "a" })]]
  end)

  it("is what SIGTERM does during run", function()
    ok[[
      local up = mp.Event()
      local p = P(function()
        local s = mp.Supervisor { tidy "a", tidy "b" }
        co.spawn(function() is(s, "b", "running") up:set() end)
        s:run()
        log:append "after run"
      end)
      up:wait()
      p:terminate()
      p:join() eq(p.exitcode, 0)
      eq(logged(), { "b", "a", "after run" })]]
  end)

  it("before it was started starts nothing", function()
    ok[[
      local s = mp.Supervisor { tidy "a" }
      eq(s:stop(), true)
      raises({ "before" }, s.start, s)
      s:run()
      eq(s:status().a, { state = "stopped", restarts = 0 })]]
  end)
end)

describe("restarting a child of a Supervisor", function()
  it("stops it and starts it at once, and does not count against its bound", function()
    ok[[
      local s <close> = mp.Supervisor { tidy "a", sleeper "b", max_restarts = 1, backoff = { 30, 30 } }
      s:start()
      local pid = s:status().a.pid
      for i = 1, 4 do eq(s:restart "a", true) end
      eq(#log, 4)
      local st = s:status()
      assert(st.a.pid ~= pid) eq(st.a.state, "running") eq(st.a.restarts, 4) eq(st.b.restarts, 0)]]
  end)

  it("ends its pause", function()
    ok[[
      local s <close> = mp.Supervisor { sleeper "a", backoff = { 60, 60 } }
      s:start()
      kill(s:status().a.pid)
      is(s, "a", "backoff")
      eq(s:restart "a", true)
      eq(s:status().a.state, "running")]]
  end)

  it("runs one once more that has ended for good", function()
    ok[[
      local s <close> = mp.Supervisor { sleeper "b", { name = "job", restart = "never",
        target = function() log:append(1) end } }
      s:start()
      is(s, "job", "exited")
      eq(s:restart "job", true)
      until_true(function() return #log == 2 end)
      is(s, "job", "exited")
      eq(s:status().job.restarts, 1)]]
  end)

  it("kills one that ignores SIGTERM", function()
    ok[[
      local s <close> = mp.Supervisor { { name = "stubborn", ready = true, stop = 0.1, target = function()
        mp.signal("TERM", "ignore") mp.ready() mp.sleep(1000)
      end } }
      s:start()
      eq(s:restart "stubborn", true)
      eq(s:status().stubborn.exitcode, -9)]]
  end)

  it("ends with the supervisor, and refuses names that it does not have", function()
    ok[[
      local s = mp.Supervisor { { name = "never ready", ready = true, target = mp.sleep, args = { 1000 } } }
      raises({ "Supervisor:restart", "#1", "string" }, s.restart, s, 5)
      raises({ "Supervisor:restart", "no child 'x'" }, s.restart, s, "x")
      raises({ "Supervisor:restart", "not running", "new" }, s.restart, s, "never ready")
      co.spawn(s.start, s)
      is(s, "never ready", "starting")
      local again = co.spawn(function() return table.pack(s:restart "never ready") end)
      co.sleep(0.05)
      s:stop()
      local r = again:get() eq(r[1], nil) eq(r[2], "closed")]]
  end)
end)

describe("the processes of a Supervisor", function()
  it("are gone when its process is killed, and so are those of supervisors below it", function()
    ok[[
      local pids = mp.Queue()
      local function sleep() pids:put(mp.current_process().pid) mp.sleep(1000) end
      local p = P(function()
        mp.Supervisor { { name = "a", target = sleep }, { name = "inner", target = function()
          mp.Supervisor { { name = "b", target = sleep } }:run()
        end } }:run()
      end)
      local a, b = pids:get(10), pids:get(10)
      p:kill() p:join()
      wait_dead(a) wait_dead(b)]]
  end)

  it("may be supervisors, which stop their children in order when they are stopped", function()
    ok[[
      local s = mp.Supervisor { tidy "a", { name = "inner", ready = true, target = function()
        local inner = mp.Supervisor { tidy "b", tidy "c" }
        co.spawn(function() is(inner, "c", "running") mp.ready() end)
        inner:run()
        log:append "inner"
      end } }
      s:start()
      s:stop()
      eq(logged(), { "c", "b", "inner", "a" })]]
  end)

  it("give up as a whole when a supervisor among them does, which is started again", function()
    ok[[
      local s <close> = mp.Supervisor { { name = "inner", target = function()
        log:append "inner"
        local inner = mp.Supervisor { { name = "crash", target = function() os.exit(1) end }, max_restarts = 1,
          backoff = QUICK }
        inner:run()
      end }, backoff = QUICK, max_restarts = 2 }
      raises({ "'inner'", "2 times", "exit code 1" }, s.run, s)
      eq(logged(), { "inner", "inner", "inner" })]]
  end)

  it("may have children of their own, which end with them", function()
    ok[[
      local pids = mp.Queue()
      local s <close> = mp.Supervisor { { name = "a", target = function()
        local p = P(mp.sleep, 1000)
        eq(p.daemon, false)
        pids:put(p.pid)
        p:join()
      end }, backoff = QUICK }
      s:start()
      local first = pids:get(10)
      kill(s:status().a.pid)
      wait_dead(first)
      local second = pids:get(10)
      s:stop()
      wait_dead(second)]]
  end)

  it("end with the main script, and are not started again meanwhile", function()
    local r = run[[
      local s = mp.Supervisor { sleeper "a", { name = "slow", ready = true, target = function()
        mp.signal("TERM", function() mp.sleep(0.3) os.exit(0) end)
        mp.ready() mp.sleep(1000)
      end }, backoff = { 0, 0 } }
      s:start()
      io.write(s:status().a.pid, "\n")]]
    assert.equal(0, r.status, r.stderr)
    assert.equal("", r.stderr)
  end)

  it("stay as many as they are to be, whatever is killed", function()
    ok([[
      local s = mp.Supervisor { sleeper "a", sleeper "b", sleeper "c", max_restarts = math.huge,
        backoff = { 0.001, 0.002 } }
      s:start()
      restarted(s, "a", 0) co.sleep(0.01) -- the keepers wait
      local before, names = descriptors(), { "a", "b", "c" }
      for i = 1, 60 do
        local st = s:status()[names[i % 3 + 1] ]
        if st.pid then kill(st.pid) end
        if i % 7 == 0 then s:restart(names[i % 3 + 1]) end
        mp.sleep(0.003)
      end
      for _, name in ipairs(names) do is(s, name, "running") end
      eq(#mp.active_children(), 3)
      until_true(function() return descriptors() <= before + 1 end)
      s:stop()
      eq(#mp.active_children(), 0)]], { timeout = 40 })
  end)
end)

describe("what a Supervisor tells", function()
  it("is in the statistics of its process", function()
    ok[[
      eq(mp.stats().supervisors, {})
      local s = mp.Supervisor { sleeper "a", name = "shop" }
      eq(mp.stats().supervisors, {})
      s:start()
      local pid = s:status().a.pid
      eq(mp.stats().supervisors,
        { { name = "shop", state = "running", children = { a = { pid = pid, state = "running", restarts = 0 } } } })
      local text = mp.metrics()
      assert(text:find('mpengine_supervised_running{supervisor="shop",child="a"} 1\n', 1, true), text)
      assert(text:find('mpengine_supervised_restarts_total{supervisor="shop",child="a"} 0\n', 1, true), text)
      inherited = s
      local p = P(function()
        local s = inherited
        eq(mp.stats().supervisors, {})
        raises({ "Supervisor:stop", "belongs to the process that made it" }, s.stop, s)
        raises({ "Supervisor:status", "belongs" }, s.status, s)
      end)
      p:join() eq(p.exitcode, 0)
      s:stop()]]
  end)

  it("names the field of a child or of its own that is wrong", function()
    ok[[
      local function f() end
      for _, case in ipairs {
        { { "#1", "table" }, 5 }, { { "list of children" }, {} }, { { "child 1", "table", "string" }, { "x" } },
        { { "child 1", "'name'", "string", "no value" }, { { target = f } } },
        { { "child 1", "'name'", "string", "5" }, { { name = 5, target = f } } },
        { { "child 2", "'target'", "function", "no value" }, { sleeper "a", { name = "b" } } },
        { { "child 1", "'target'", "function", "string" }, { { name = "a", target = "f" } } },
        { { "child 1", "'args'", "table" }, { { name = "a", target = f, args = 5 } } },
        { { "child 1", "'restart'", "'on_error'" }, { { name = "a", target = f, restart = "sometimes" } } },
        { { "child 1", "'ready'", "seconds", "-1" }, { { name = "a", target = f, ready = -1 } } },
        { { "child 1", "'stop'", "seconds", "nan" }, { { name = "a", target = f, stop = 0 / 0 } } },
        { { "child 1", "start method", "'clone'" }, { { name = "a", target = f, method = "clone" } } },
        { { "child 1", "unknown field 'arg'" }, { { name = "a", target = f, arg = {} } } },
        { { "child 2", "another child", "'a'" }, { sleeper "a", sleeper "a" } },
        { { "hole", "3" }, { sleeper "a", nil, sleeper "b" } },
        { { "'max_restarts'", "integer", "1.5" }, { sleeper "a", max_restarts = 1.5 } },
        { { "'max_restarts'", "-1" }, { sleeper "a", max_restarts = -1 } },
        { { "'window'", "above 0", "0" }, { sleeper "a", window = 0 } },
        { { "'backoff'", "two numbers" }, { sleeper "a", backoff = 5 } },
        { { "'backoff'", "two numbers" }, { sleeper "a", backoff = { 2, 1 } } },
        { { "'backoff'", "two numbers" }, { sleeper "a", backoff = { 0 / 0, 1 } } },
        { { "'name'", "string" }, { sleeper "a", name = 5 } },
        { { "unknown field 'max_restart'" }, { sleeper "a", max_restart = 5 } },
      } do
        case[1][#case[1] + 1] = "Supervisor"
        raises(case[1], mp.Supervisor, case[2])
      end
      local s = mp.Supervisor { sleeper "a" }
      raises({ "Supervisor:stop", "timeout" }, s.stop, s, -1)
      raises({ "Supervisor:stop", "bad self" }, s.stop, {})]]
  end)

  it("is an error of start when a child cannot be sent, and what was started is stopped", function()
    ok[[
      local thread = coroutine.create(print)
      local s = mp.Supervisor { tidy "a", sleeper("b", { args = { thread } }) }
      raises({ "cannot send a coroutine" }, s.start, s)
      eq(logged(), { "a" })
      eq(s:status().b.state, "stopped")]]
  end)
end)
