local support = require "spec.support"

-- The report, of the command.
local function reports(texts, code, opts)
  opts = opts or {}
  opts.mode = "command"
  table.insert(texts, 1, "every process waits for something that can never come")
  local r = support.ends(1, texts, code, opts)
  local _, times = r.stderr:gsub("every process waits", "")
  assert.equal(1, times, r.stderr)
  assert.falsy(("\n" .. r.stderr):find("\nProcess ", 1, true), r.stderr) -- the others end without a word
  return r.stderr
end

local function ok(code, opts)
  opts = opts or {}
  opts.mode = "command"
  return support.ok(code, opts)
end

describe("A deadlock of processes #later", function()
  it("of two locks taken in opposite order: names the processes, tasks, objects and lines", function()
    local text = reports({ "MainProcess (pid", "Process-1 (pid", "script.lua:7", "script.lua:12", "in a cycle" }, [[
      local a, b = mp.Lock(), mp.Lock()
      local both = mp.Barrier(2)
      local p = P(function()
        local t = mp.co.spawn(function()
          b:acquire()
          both:wait()
          a:acquire()
        end)
        t.name = "the other way"
        t:join()
      end)
      a:acquire() both:wait() b:acquire()]])
    assert.truthy(text:find("main of MainProcess waits at [^\n]*script.lua:12 for mp.Lock: 0x%x+, "
      .. "which depends on the other way of Process%-1\n"), text)
    assert.truthy(text:find("the other way of Process%-1 waits at [^\n]*script.lua:7 for mp.Lock: 0x%x+, "
      .. "which depends on main of MainProcess\n"), text)
    assert.truthy(text:find("mp.Lock: 0x%x+ %(held by MainProcess, pid %d+%)"), text)
  end)

  it("of a ring of three, whose parent has ended its own work", function()
    local text = reports({ "the end of Process-1 (pid" }, [[
      local locks, all_there = { mp.Lock(), mp.Lock(), mp.Lock() }, mp.Barrier(3)
      for i = 1, 3 do
        P(function()
          locks[i]:acquire() all_there:wait()
          locks[i % 3 + 1]:acquire()
        end)
      end]])
    for i = 1, 3 do
      assert.truthy(text:find(("main of Process-%d waits at "):format(i), 1, true), text)
    end
  end)

  it("of a parent that joins a child, which waits for items that no process puts", function()
    reports({ "the end of feeder (pid", "mp.Queue: 0x", "script.lua:2", "script.lua:4" }, [[
      local q = mp.Queue()
      local p = mp.Process{ name = "feeder", target = function() q:get() end }
      p:start()
      p:join()]])
  end)

  it("of a parent that waits for a child, which waits for the parent's lock: a cycle too", function()
    reports({ "main of MainProcess waits at", "main of Process-1 waits at", "the end of Process-1" }, [[
      local lock = mp.RLock()
      lock:acquire()
      P(function() lock:acquire() end):join()]])
  end)

  it("of a pool whose task waits for a lock held by the process that waits for the result", function()
    reports({ "PoolWorker-1 (pid", "held by MainProcess", "script.lua:4" }, [[
      local lock = mp.Lock()
      local pool = mp.Pool(2)
      lock:acquire()
      pool:apply(function() lock:acquire() end)]])
  end)

  it("of waits on everything that can be waited for", function()
    reports({ "mp.Event", "mp.Semaphore", "mp.Condition", "mp.Barrier", "mp.Queue", "an answer" }, [[
      local sem, cond, full = mp.Semaphore(0), mp.Condition(), mp.Queue(1)
      local a, b = mp.Pipe()
      full:put(1)
      local waits = {
        function() mp.Event():wait() end, function() sem:acquire() end,
        function() cond:acquire() cond:wait() end, function() mp.Barrier(2):wait() end,
        function() full:put(2) end, function() a:recv() end, function() mp.wait{ mp.Event(), mp.Queue() } end,
      }
      for _, f in ipairs(waits) do P(f) end]])
  end)

  it("of processes of all start methods", function()
    for _, method in ipairs{ "fork", "spawn", "forkserver" } do
      reports({ "the end of Process-1" }, ([[
        mp.set_start_method "%s"
        local q = mp.Queue()
        P(function(q) q:get() end, q):join()]]):format(method))
    end
  end)

  it("is raised by the wait, and the program goes on when it is caught", function()
    ok[[
      local lock, q = mp.Lock(), mp.Queue()
      lock:acquire()
      local p = P(function()
        local good, why = pcall(lock.acquire, lock)
        q:put(tostring(why))
      end)
      local good, why = pcall(q.get, q)
      eq(good, false)
      assert(why:find("in a cycle", 1, true) == nil and why:find("held by MainProcess", 1, true), why)
      assert(q:get(5):find("can never come", 1, true))
      p:join()
      eq(p.exitcode, 0)]]
  end)

  it("is reported after everything that could happen has happened", function()
    reports({ "mp.Queue" }, [[
      local q, back = mp.Queue(), mp.Queue()
      P(function() for _ = 1, 1000 do back:put(q:get()) end q:get() end)
      for i = 1, 1000 do q:put(i) eq(back:get(), i) end
      back:get()]])
  end)

  it("runs close variables, and also ends processes that catch the error", function()
    local r = support.ends(1, { "every process waits" }, [[
      local q = mp.Queue()
      P(function()
        while true do pcall(q.get, q) end
      end)
      local closed <close> = setmetatable({}, { __close = function() print "closed" end })
      q:get()]], { mode = "command" })
    assert.equal("closed\n", r.stdout)
  end)

  it("is not reported with MPENGINE_DEADLOCK=off, nor under stock Lua", function()
    local code = [[
      local q = mp.Queue()
      P(function() q:get() end):join() ]]
    for _, opts in ipairs{ { env = { MPENGINE_DEADLOCK = "off" }, mode = "command" }, { mode = "stock" } } do
      opts.cut = 1
      assert.truthy(support.run(code, opts).timed_out)
    end
  end)

  it("is reported under stock Lua with MPENGINE_DEADLOCK=report", function()
    support.ends(1, { "every process waits", "the end of Process-1" }, [[
      local q = mp.Queue()
      P(function() q:get() end):join()]], { mode = "stock", env = { MPENGINE_DEADLOCK = "report" } })
  end)
end)

-- In each of these the processes wait for each other but for one thing, and the end is a good one.
describe("No deadlock is reported #later", function()
  it("while a task sleeps, or a wait has a timeout", function()
    ok[[
      local q = mp.Queue()
      local p = P(function() eq(q:get(), 1) eq(q:get(), 2) eq({ mp.Queue():get(0.2) }, { nil, "empty" }) end)
      mp.co.spawn(function() mp.sleep(0.2) q:put(1) end)
      mp.co.spawn_later(0.4, function() q:put(2) end)
      p:join()
      eq(p.exitcode, 0)]]
  end)

  it("while a process waits for a program or a socket", function()
    ok[[
      local q = mp.Queue()
      local p = P(function()
        eq(mp.subprocess.run{ "sh", "-c", "sleep 0.2; echo done" }.stdout, "done\n")
        mp.monkey.patch_all()
        local server = require("socket").bind("127.0.0.1", 0)
        local _, port = server:getsockname()
        q:put(port)
        q:put(server:accept():receive())
      end)
      local line = "(sleep 0.3; exec 3<>/dev/tcp/127.0.0.1/%d; echo line >&3) &"
      os.execute("bash -c '" .. line:format(q:get()) .. "'")
      eq(q:get(), "line")
      p:join()]]
  end)

  it("while a process computes, or is blocked in a C call", function()
    ok[[
      local q = mp.Queue()
      P(function() local from = os.clock() repeat until os.clock() > from + 0.2 q:put(1) end)
      eq(q:get(), 1)
      P(function() os.execute "sleep 0.2" q:put(2) end)
      eq(q:get(), 2)]]
  end)

  it("while a process is stopped, in a wait or at work", function()
    ok[[
      local q, at_work = mp.Queue(), mp.Event()
      local waits = P(function() eq(q:get(), 1) end)
      local works = P(function() at_work:set() local n = 0 while not q:full() and n < 2e7 do n = n + 1 end q:put(1) end)
      at_work:wait()
      asleep(waits.pid)
      kill(waits.pid, "STOP") kill(works.pid, "STOP")
      os.execute(("(sleep 0.5; kill -CONT %d %d) &"):format(waits.pid, works.pid))
      waits:join() works:join()
      eq({ waits.exitcode, works.exitcode }, { 0, 0 })]]
  end)

  it("while the script has a signal handler", function()
    ok[[
      local q = mp.Queue()
      local p = P(function()
        mp.signal("USR1", function() q:put "signal" end)
        q:put "ready"
        mp.Event():wait()
      end)
      eq(q:get(), "ready")
      os.execute(("(sleep 0.3; kill -USR1 %d) &"):format(p.pid))
      eq(q:get(), "signal")
      p:kill()]]
  end)

  it("when one of the processes that wait for each other is killed by another", function()
    ok[[
      local a, b, both = mp.Lock(), mp.Lock(), mp.Barrier(3)
      local function take(x, y) x:acquire() both:wait() return y:acquire() end
      local p = P(function() take(a, b) end)
      local r = P(function()
        local _, why = take(b, a)
        os.exit(why == "owner_died" and 7 or 8)
      end)
      both:wait()
      asleep(p.pid) asleep(r.pid)
      kill(p.pid)
      r:join() p:join() -- what p held is free a moment before the kernel has its exit code
      eq({ r.exitcode, p.exitcode }, { 7, -9 })]]
  end)

  it("when the killer itself waits for what its victim held, again and again", function()
    ok[[
      for _ = 1, 100 do
        local lock, taken = mp.Lock(), mp.Event()
        local p = P(function() lock:acquire() taken:set() mp.Event():wait() end)
        taken:wait()
        p:kill()
        eq({ lock:acquire() }, { true, "owner_died" })
        p:join()
      end]]
  end)

  it("when a waiting process is terminated and joined at once, beside other waiting ones", function()
    ok[[
      local q, never = mp.Queue(), mp.Event()
      local idle = P(function() q:get() end)
      for _ = 1, 100 do
        local p = P(function() never:wait() end)
        asleep(p.pid)
        p:terminate()
        p:join()
        eq(p.exitcode, -15)
      end
      q:put(1)
      idle:join()]]
  end)

  it("by the processes of a program that is killed, which end with it", function()
    local program = os.tmpname()
    support.write_file(program, [[
      local mp = require "mpengine"
      local q, pool = mp.Queue(), mp.Pool(2)
      mp.Process(function() q:get() end):start()
      pool:apply(function() end)
      print "ready"
      mp.Event():wait(100)
    ]])
    ok(([[
      for _ = 1, 20 do
        local p = mp.subprocess.Popen{ %q, %q, stdout = "pipe", stderr = "pipe" }
        eq(p:read "l", "ready")
        p:kill()
        p:wait()
        eq(p:read_err "a", "") -- until all of them have ended
      end]]):format(support.command, program), { timeout = 60 })
    os.remove(program)
  end)
end)
