-- uv.run, compared with luv on a loop of its own under stock Lua.
local support = require "spec.support"
local as_stock, ok = support.as_stock, support.ok

describe("uv.run", function()
  it("returns when nothing is active, whatever was started and how", function()
    as_stock[[
      local uv = require "luv"
      local function pair()
        local fds, a, b = assert(uv.socketpair()), uv.new_tcp(), uv.new_tcp()
        a:open(fds[1])
        b:open(fds[2])
        return a, b
      end
      local begun = {
        nothing = function() end,
        write = function() pair():write("x") end,
        write_called = function() pair():write("x", function(err) print("written", err) end) end,
        many_writes = function() local a = pair() for _ = 1, 100 do a:write(("x"):rep(100)) end end,
        shutdown = function() pair():shutdown() end,
        send = function() uv.new_udp():send("x", "127.0.0.1", 9) end,
        failed_spawn = function() print(uv.spawn("/nonexistent", {}, print)) end,
        failed_connect = function() uv.new_pipe():connect("/nonexistent", function(err) print(err) end) end,
        random = function() uv.random(8, nil, function(err, bytes) print(err, #bytes) end) end,
        stat = function() uv.fs_stat("/", function(err, stat) print(err, stat.type) end) end,
        failed_stat = function() uv.fs_stat("/nonexistent", print) end,
        work = function() uv.new_work(function(a) return a + 1 end, print):queue(1) end,
        work_in_coroutine = function()
          coroutine.wrap(function()
            local me = coroutine.running()
            uv.new_work(function() return 42 end, function(v) coroutine.resume(me, v) end):queue()
            print(coroutine.yield())
          end)()
        end,
        unreferenced = function() local t = uv.new_timer() t:start(100000, 0, print) t:unref() end,
        closed = function() uv.new_timer():close() end,
        closed_called = function() uv.new_timer():close(function() print "closed" end) end,
        cancelled = function() local r = uv.getaddrinfo("localhost", nil, nil, function() end) r:cancel() end,
        scandir = function() uv.fs_scandir("/", function(err, r) print(err, uv.fs_scandir_next(r) ~= nil) end) end,
        child = function() uv.spawn("true", {}, function(code, signal) print(code, signal) end) end,
      }
      local names = {}
      for name in pairs(begun) do names[#names + 1] = name end
      table.sort(names)
      for _, name in ipairs(names) do
        begun[name]()
        print(name, uv.run(), uv.loop_alive())
      end]]
  end)

  it("'once' blocks for one callback, or for the end of a handle that has none", function()
    as_stock[[
      local uv = require "luv"
      local a, b, n = uv.new_timer(), uv.new_timer(), 0
      a:start(5, 0, function() n = n + 1 end)
      print(uv.run "once", n)
      print(uv.run "once", n)
      a:start(100000, 0, print)
      b:start(5, 0, function() n = n + 1 end)
      print(uv.run "once", n)
      b:close()
      print(uv.run "once", b:is_active())
      local fds = assert(uv.pipe())
      local w = uv.new_pipe()
      w:open(fds.write)
      w:write("x")
      print(uv.run "once", uv.stream_get_write_queue_size(w))
      local idle = uv.new_idle()
      idle:start(function() n = n + 1 end)
      print(uv.run "once", n)]]
  end)

  it("'nowait' runs what is due and nothing else", function()
    as_stock[[
      local uv = require "luv"
      local t, idle, n = uv.new_timer(), uv.new_idle(), 0
      print(uv.run "nowait")
      t:start(100000, 0, print)
      print(uv.run "nowait", n)
      t:start(0, 0, function() n = n + 1 end)
      print(uv.run "nowait", n)
      idle:start(function() n = n + 10 end)
      print(uv.run "nowait", n, uv.run "nowait", n)]]
  end)

  it("'nowait' in a loop serves sockets, timers, threads and programs", function()
    as_stock[[
      local uv = require "luv"
      local seen = {}
      local fds = assert(uv.socketpair())
      local a, b, t = uv.new_tcp(), uv.new_tcp(), uv.new_timer()
      a:open(fds[1])
      b:open(fds[2])
      b:read_start(function(_, data) seen.data = data b:close() end)
      a:write("x", function() a:close() end)
      t:start(10, 0, function() seen.timer = true t:close() end)
      uv.fs_stat("/", function() seen.thread = true end)
      local p p = uv.spawn("true", {}, function() seen.program = true p:close() end)
      while uv.run "nowait" do end
      print(seen.data, seen.timer, seen.thread, seen.program)]]
  end)

  it("ends by uv.stop, in a callback or beforehand, once for each", function()
    as_stock[[
      local uv = require "luv"
      local t, n = uv.new_timer(), 0
      local function once() n = n + 1 uv.stop() end
      for _ = 1, 2 do
        t:start(1, 60000, once)
        print(uv.run(), n)
      end
      t:start(20, 1, function() n = n + 1 if n == 5 then t:stop() end end)
      uv.stop()
      uv.stop()
      print(uv.run(), n)
      print(uv.run(), n)
      uv.stop()
      print(uv.run "nowait", uv.run "once", uv.run())]]
  end)

  it("reports its mode", function()
    as_stock[[
      local uv = require "luv"
      local t = uv.new_timer()
      local function tell() print(uv.loop_mode()) end
      tell()
      for _, mode in ipairs { "default", "once", "nowait" } do
        t:start(0, 0, tell)
        uv.run(mode)
      end
      tell()]]
  end)

  it("keeps the loop's time as it was within a turn", function()
    as_stock[[
      local uv = require "luv"
      local t = uv.new_timer()
      local function frozen()
        local from, since = uv.now(), uv.hrtime()
        while uv.hrtime() - since < 5e6 do end
        print(uv.now() - from)
        uv.update_time()
        print(uv.now() - from >= 5)
      end
      frozen()
      t:start(1, 0, frozen)
      uv.run()
      t:start(1, 0, print)
      print(t:get_due_in())]]
  end)

  it("calls the handles of a turn in libuv's order", function()
    as_stock[[
      local uv = require "luv"
      for _, kind in ipairs { "check", "idle", "prepare" } do
        local h = uv["new_" .. kind]()
        h:start(function() print(kind) h:close(function() print(kind, "closed") end) end)
      end
      local t = uv.new_timer()
      t:start(0, 0, function() print "timer" t:close() end)
      uv.run()]]
  end)

  it("raises for an unknown mode", function()
    as_stock[[
      local uv = require "luv"
      local function tell(_, message) print(message:match "script.lua:%d+: bad argument.*") end
      tell(pcall(function() uv.run "always" end))
      tell(pcall(function() uv.run {} end))
      tell(pcall(function() uv.walk(1) end))]]
  end)

  it("does not close the loop while something is on it", function()
    as_stock[[
      local uv = require "luv"
      local t = uv.new_timer()
      print(uv.loop_close())
      t:close()
      print(uv.loop_close())
      uv.run()
      print(uv.loop_close())]]
  end)
end)

describe("uv.run beside tasks", function()
  it("suspends only its own", function()
    ok[[
      local uv, co, ticks, fired = require "luv", mp.co, 0, false
      co.spawn(function() while true do ticks = ticks + 1 co.sleep(0.001) end end)
      local t = uv.new_timer()
      t:start(50, 0, function() fired = true t:close() end)
      eq(uv.run(), false)
      assert(fired and ticks > 1)]]
  end)

  it("'nowait' in a loop lets them run, in the main chunk and in a task", function()
    ok[[
      local uv, co = require "luv", mp.co
      local function polls()
        local others, slept, stop = 0, false, false
        co.spawn(function() while not stop do others = others + 1 co.sleep(0) end end)
        co.spawn(function() co.sleep(0.01) slept = true end)
        while not slept do uv.run "nowait" end
        stop = true
        assert(others > 1)
      end
      polls()
      co.spawn(polls):get()]]
  end)

  it("in a loop lets them run when there is nothing to wait for", function()
    ok[[
      local uv, co = require "luv", mp.co
      for _, mode in ipairs { "default", "once" } do
        local slept
        co.spawn(function() co.sleep(0.01) slept = true end)
        while not slept do eq(uv.run(mode), false) end
      end]]
  end)

  it("ends when another task stops, closes or unreferences the last handle", function()
    ok[[
      local uv, co = require "luv", mp.co
      for _, ends in ipairs { "stop", "close", "unref" } do
        local t = uv.new_timer()
        t:start(100000, 0, function() end)
        local runner = co.spawn(uv.run)
        co.sleep(0.005)
        t[ends](t)
        eq(runner:get(10), false, ends)
      end]]
  end)

  it("ends so even while other tasks are always ready", function()
    ok[[
      local uv, co, ended = require "luv", mp.co, false
      for _, ends in ipairs { "stop", "close", "unref" } do
        local t = uv.new_timer()
        t:start(100000, 0, function() end)
        ended = false
        co.spawn(function() uv.run() ended = true end)
        co.sleep(0)
        t[ends](t)
        while not ended do co.sleep(0) end
      end]]
  end)

  it("ends by uv.stop for all that are in it", function()
    ok[[
      local uv, co = require "luv", mp.co
      local t = uv.new_timer()
      t:start(100000, 0, function() end)
      local first, second = co.spawn(uv.run), co.spawn(uv.run, "once")
      co.sleep(0.005)
      uv.stop()
      eq({ first:get(10), second:get(10) }, { true, true })
      eq(uv.run "nowait", true)
      t:close()
      eq(uv.run(), false)]]
  end)

  it("has several callers waiting for the same end, all of which get it", function()
    ok[[
      local uv, co, ended = require "luv", mp.co, 0
      local t = uv.new_timer()
      for _ = 1, 3 do
        co.spawn(function()
          uv.run()
          ended = ended + 1
          t:start(100000, 0, function() end) -- the others have seen their end nevertheless
        end)
      end
      t:start(5, 0, function() end)
      until_true(function() return ended == 3 end)]]
  end)

  it("can be cancelled, and leaves nothing behind", function()
    ok[[
      local uv, co = require "luv", mp.co
      local t = uv.new_timer()
      t:start(100000, 0, function() end)
      eq(table.pack(co.with_timeout(0.01, uv.run)), table.pack(nil, "timeout"))
      eq(uv.loop_mode(), nil)
      local task = co.spawn(uv.run)
      co.sleep(0.005)
      eq(uv.loop_mode(), "default")
      task:kill()
      task:join()
      eq(uv.loop_mode(), nil)
      uv.stop()
      eq(uv.run(), true)]]
  end)

  it("waits for nothing of the engine's own", function()
    ok[[
      local uv, co = require "luv", mp.co
      local r, w = mp.Pipe()
      local program = co.spawn(mp.subprocess.run, { "sh", "-c", "read x; echo $x", stdin = "x" })
      local child = P(function() r:recv() end)
      co.spawn(child.join, child)
      co.spawn(co.offload, function() os.execute "sleep 0.1" end)
      co.sleep(0.02)
      eq({ uv.loop_alive(), uv.run(), uv.run "once", uv.run "nowait" }, { false, false, false, false })
      eq(uv.loop_close(), 0)
      eq(program:get().stdout, "x\n")
      w:send(1)]]
  end)

  it("learns of the end of a callback that waits, too", function()
    ok[[
      local uv, co, ended = require "luv", mp.co, false
      local t = uv.new_timer()
      t:start(1, 0, function() t:close() co.sleep(0.02) ended = true end)
      eq(uv.run(), false)
      assert(ended)]]
  end)

  it("inside callbacks ends for them first", function()
    ok[[
      local uv, order, last = require "luv", {}, false
      for i = 1, 3 do
        local t = uv.new_timer()
        t:start(1, 0, function()
          t:close()
          uv.run(i == 3 and "nowait" or "default")
          order[#order + 1] = i
          if i < 3 then return assert(last) end
          local other = uv.new_timer()
          other:start(10, 0, function() other:close() last = true end)
        end)
      end
      uv.run()
      eq({ #order, order[1] }, { 3, 3 })]]
  end)
end)
