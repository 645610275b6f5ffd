-- What becomes of children when the main process, or the one that started them, is killed.
local support = require "spec.support"
local ok, run, shell, quote = support.ok, support.run, support.shell, support.quote

-- All processes of a program have its output: it is over when none of them runs.
local OVER = { through = "{ " .. support.limit .. " cat && echo over; }" }

local function ends_with_main(expected, code, opts)
  opts = opts or {}
  opts.through = OVER.through
  local r = run(code, opts)
  assert.same({ 128 + 9, expected .. "over\n" }, { r.status, r.stdout })
end

for _, method in ipairs{ "fork", "spawn", "forkserver" } do
  local with = { env = { MPENGINE_START_METHOD = method } }

  describe("kill -9 of the main process ends, with the start method " .. method .. ",", function()
    it("children that wait, sleep, compute, are in C code, wait for a program or have tasks", function()
      ends_with_main("", [[
        local ready = mp.Queue()
        P(function() ready:put(1) mp.Event():wait() end)
        P(function() ready:put(1) mp.sleep(60) end)
        P(function() ready:put(1) while true do end end)
        P(function() ready:put(1) while true do pcall(function() while true do end end) end end)
        P(function() local s = ("a"):rep(40) ready:put(1) s:find((".-"):rep(30) .. "b") end)
        P(function() ready:put(1) mp.subprocess.run{ "sleep", "60" } end)
        P(function()
          mp.co.spawn(mp.sleep, 60)
          mp.co.spawn(function() while true do mp.sleep(0) end end)
          ready:put(1)
        end)
        P(function() local lock = mp.Lock() lock:acquire() ready:put(1) lock:acquire() end)
        for _ = 1, 8 do ready:get() end
        kill(0)]], with)
    end)

    it("children of children, of workers of a pool and of a supervisor, and daemons", function()
      ends_with_main("", [[
        local ready = mp.Queue()
        local function chain(n)
          if n > 1 then P(chain, n - 1) end
          ready:put(1)
          while true do mp.sleep(60) end
        end
        P(chain, 3)
        mp.Process{ daemon = true, target = chain, args = { 1 } }:start()
        mp.Pool(2):apply_async(function() P(chain, 1) ready:put(1) while true do end end)
        local s = mp.Supervisor{ { name = "one", target = function() chain(2) end } }
        mp.co.spawn(function() s:run() end)
        for _ = 1, 8 do ready:get() end
        kill(0)]], with)
    end)

    it("workers of servers", function()
      ends_with_main("", [[
        local s = mp.http.serve{ port = 0, workers = 2, handler = function() return 200, {}, "here" end }
        s:start()
        eq(mp.http.get("http://127.0.0.1:" .. s.port).body, "here")
        mp.server.StreamServer{ port = 0, workers = 1, handler = print }:start()
        kill(0)]], with)
    end)

    it("a child that is just being started", function()
      ends_with_main("", [[
        local pid = mp.current_process().pid
        mp.Process{ detach = true, target = function() kill(pid) end }:start()
        while true do P(mp.sleep, 60) end]], with)
    end)

    it("a child after its handler of SIGTERM, and not before", function()
      ends_with_main("handled TERM\nhandled\n", [[
        local ready = mp.Event()
        P(function()
          mp.signal("TERM", function()
            print "handled TERM"
            mp.sleep(0.1)
            print "handled"
            os.exit(0)
          end)
          ready:set()
          mp.sleep(60)
        end)
        ready:wait()
        kill(0)]], with)
    end)

    it("five seconds later, children that SIGTERM does not end, or that are stopped", function()
      local before = os.time()
      local r = run([[
        local ready = mp.Queue()
        local function child(how, f)
          P(function()
            if how then mp.signal("TERM", how) end
            f()
          end)
        end
        local function wait() ready:put(1) while true do mp.sleep(60) end end
        local function compute() ready:put(1) while true do end end
        local function stop()
          ready:put(mp.current_process().pid)
          while true do mp.sleep(60) end
        end
        child("ignore", wait)
        child("ignore", compute)
        child("ignore", function() mp.co.spawn(compute) mp.sleep(60) end)
        child("ignore", function() local s = ("a"):rep(40) ready:put(1) s:find((".-"):rep(30) .. "b") end)
        child("ignore", function() mp.signal("CONT", "ignore") wait() end)
        child("ignore", function()
          child("ignore", function() mp.signal("CONT", function() print "CONT" end) wait() end)
          wait()
        end)
        child(function() print "TERM" mp.sleep(60) end, wait)
        for _ = 1, 8 do ready:get() end
        child("ignore", stop)
        child(nil, stop)
        for _ = 1, 2 do kill(ready:get(), "STOP") end
        kill(0)]], { env = with.env, through = OVER.through .. " | LC_ALL=C sort", timeout = 40 })
      assert.same({ 128 + 9, "CONT\nTERM\nover\n" }, { r.status, r.stdout })
      assert(os.time() - before >= 4, "they had no time")
    end)

    it("no child that is detached, which may have children itself", function()
      ends_with_main("detached\nits child\n", [[
        local ready, killed = mp.Event(), mp.Event()
        P(function() ready:wait() mp.sleep(60) end)
        mp.Process{ detach = true, target = function()
          local parent = mp.parent_process()
          ready:set()
          parent:join()
          print "detached"
          P(function() print "its child" end)
        end }:start()
        ready:wait()
        kill(0)]], with)
    end)
  end)
end

describe("a process that is bound to the main process", function()
  it("goes on when its own starter is killed or terminated, and ends with the main process", function()
    for _, signal in ipairs{ "KILL", "TERM" } do
      ends_with_main("alone\ndone\n", ([[
        local ready, go, done = mp.Event(), mp.Event(), mp.Event()
        local middle = P(function()
          P(function()
            ready:set()
            mp.parent_process():join()
            print "alone"
            go:wait()
            print "done"
            done:set()
            mp.sleep(60)
          end)
          mp.sleep(60)
        end)
        ready:wait()
        kill(middle.pid, %q)
        middle:join()
        go:set()
        done:wait()
        kill(0)]]):format(signal))
    end
  end)

  it("gets SIGTERM once, whatever becomes of the others", function()
    ends_with_main(("once\n"):rep(3), [[
      local ready, over, go, pids = mp.Semaphore(0), mp.Semaphore(0), mp.Semaphore(0), mp.Queue()
      for _ = 1, 3 do
        P(function()
          local n = 0
          mp.signal("TERM", function()
            n = n + 1
            if n == 1 then over:release() end
          end)
          ready:release()
          go:acquire(30) -- the others have ended by then
          print(n == 1 and "once" or n .. " times")
          go:release()
          os.exit(0)
        end)
      end
      for _ = 1, 20 do P(function() pids:put(mp.current_process().pid) ready:release() mp.sleep(60) end) end
      mp.Process{ detach = true, target = function()
        local main = mp.parent_process()
        for _ = 1, 23 do ready:acquire() end
        kill(main.pid)
        for _ = 1, 3 do over:acquire() end
        for _ = 1, 20 do wait_dead(pids:get()) end
        go:release()
      end }:start()
      mp.sleep(60)]])
  end)

  it("hangs no other process with what it had", function()
    ends_with_main("free\n", [[
      local lock, ready, done = mp.Lock(), mp.Event(), mp.Queue()
      P(function() lock:acquire() ready:set() mp.sleep(60) end)
      ready:wait()
      mp.Process{ detach = true, target = function()
        done:put(1)
        pcall(lock.acquire, lock)
        print "free"
      end }:start()
      done:get()
      kill(0)]])
  end)

  it("leaves no descriptor behind, in it and in its starter", function() ok[[
    local function start(f, ...) local p = P(f, ...) p:join() p:close() end
    start(mp.sleep, 0.1)
    local before = descriptors()
    for _ = 1, 20 do start(function() end) end
    eq(descriptors(), before)]]
  end)

  it("is ended by a crash of that, and by SIGHUP", function()
    local crash = (os.getenv "ASAN_OPTIONS" or "") .. ":handle_segv=0" -- a sanitizer exits with 1 instead
    for signal, status in pairs{ SEGV = 11, HUP = 1 } do
      local r = run(([[
        local ready = mp.Event()
        P(function() ready:set() mp.sleep(60) end)
        ready:wait()
        kill(0, %q)
        mp.sleep(60)]]):format(signal),
        { through = OVER.through, before = "ulimit -c 0", env = { ASAN_OPTIONS = crash } })
      assert.same({ 128 + status, "over\n" }, { r.status, r.stdout })
    end
  end)

  it("is so in a program without /proc", function()
    if shell("unshare -m true 2>&1") ~= "" then pending("needs a mount namespace") end
    local r = run([[
      local ready = mp.Event()
      P(function() ready:set() while true do end end)
      P(function() P(mp.sleep, 60) ready:wait() mp.sleep(60) end)
      ready:wait()
      kill(0)]], { through = OVER.through, under = "unshare -m sh -c " ..
        quote("mount -t tmpfs none /proc && exec \"$0\" \"$@\"") })
    assert.same({ 128 + 9, "over\n" }, { r.status, r.stdout })
  end)
end)

describe("detach", function()
  it("keeps the end of the script waiting, as for any child", function()
    support.prints("main\nchild\n", [[
      local go = mp.Event()
      mp.Process{ detach = true, target = function() go:wait() print "child" end }:start()
      print "main"
      go:set()]])
  end)

  it("is no daemon, and is told so", function()
    local code = [[
      raises("detached", function() mp.Process{ daemon = true, detach = true } end)
      local p = mp.Process{ detach = true, target = print }
      raises("detached", function() p.daemon = true end)
      p.daemon = false
      raises("boolean", function() mp.Process{ detach = 1 } end)]]
    ok(code)
  end)
end)
