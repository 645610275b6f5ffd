-- The callbacks of luv: when they are called, and what they may do.
local support = require "spec.support"
local as_stock, ok, ends = support.as_stock, support.ok, support.ends

describe("a callback of luv", function()
  it("is not called after close, stop, read_stop or recv_stop", function()
    as_stock[[
      local uv = require "luv"
      local function reader(text)
        local fds, r = assert(uv.pipe()), uv.new_pipe()
        r:open(fds.read)
        uv.fs_write(fds.write, text)
        uv.fs_close(fds.write)
        return r
      end
      local calls
      local function counts(f) calls = 0 return function(...) calls = calls + 1 f(...) end end
      local a, b = reader "PING", reader "PING"
      a:read_start(counts(function() a:close() end))
      print(uv.run(), calls)
      b:read_start(counts(function() b:read_stop() end))
      print(uv.run(), calls)
      local function receives(f)
        local receiver, sender = uv.new_udp(), uv.new_udp()
        receiver:bind("127.0.0.1", 0)
        receiver:recv_start(counts(function() f(receiver) end))
        for i = 1, 3 do sender:try_send("d" .. i, "127.0.0.1", receiver:getsockname().port) end
        sender:close()
        print(uv.run(), calls)
      end
      receives(function(u) if not u:is_closing() then u:close() end end)
      receives(function(u) u:recv_stop() end)
      for _, kind in ipairs { "timer", "idle", "prepare", "check" } do
        local h, wakes = uv["new_" .. kind](), uv.new_timer()
        local stop = counts(function() h:stop() wakes:close() end)
        if kind == "timer" then h:start(1, 1, stop) else h:start(stop) end
        wakes:start(5, 5, function() end)
        print(kind, uv.run(), calls)
      end
      local one, two = uv.new_timer(), uv.new_timer()
      one:start(0, 0, counts(function() two:close() end))
      two:start(0, 0, function() print "after close" end)
      print(uv.run(), calls)]]
  end)

  it("gets what libuv gives, and is called as often", function()
    as_stock[[
      local uv = require "luv"
      local server, n = uv.new_tcp(), 0
      server:bind("127.0.0.1", 0)
      server:listen(8, function(err)
        local c = uv.new_tcp()
        server:accept(c)
        print("connection", err)
        c:read_start(function(e, data)
          print("server", e, data)
          if data then c:write(data:upper(), function(err2) print("written", err2) end) else c:close() end
        end)
        n = n + 1
        if n == 3 then server:close(function() print "closed" end) end
      end)
      local function client(i)
        local c = uv.new_tcp()
        c:connect("127.0.0.1", server:getsockname().port, function(err)
          print("connected", err)
          c:write("hello" .. i)
          c:read_start(function(e, data)
            print("client", e, data)
            c:close(function() if i < 3 then client(i + 1) end end)
          end)
        end)
      end
      client(1)
      uv.run()]]
  end)

  it("may be a table that can be called", function()
    as_stock[[
      local uv = require "luv"
      local callable = setmetatable({}, { __call = function(self, ...) print(type(self), ...) end })
      local t = uv.new_timer()
      t:start(1, 0, callable)
      uv.run()
      t:close(callable)
      uv.run()
      uv.fs_stat("/nonexistent", callable)
      uv.run()]]
  end)

  it("may resume a coroutine that made its handle, request or work and has yielded", function()
    as_stock[[
      local uv = require "luv"
      local function await(start, ...)
        local me = coroutine.running()
        start(function(...) assert(coroutine.resume(me, ...)) end, ...)
        return coroutine.yield()
      end
      coroutine.wrap(function()
        print(await(function(f) uv.new_timer():start(1, 0, f) end))
        print(await(function(f) uv.fs_open("/", "r", 0, function(err, fd) f(err, type(fd)) end) end))
        print(await(function(f) uv.new_work(function(a, b) return a * b, "x" end, f):queue(6, 7) end))
        print(await(function(f) uv.spawn("true", {}, f) end))
        print "end"
      end)()
      print(uv.run())]]
  end)

  it("is called at once where the loop finds it, before any task that is ready", function()
    ok[[
      local uv, co, order = require "luv", mp.co, {}
      local t, check = uv.new_timer(), uv.new_check()
      t:start(0, 0, function()
        co.spawn(function() order[#order + 1] = "task" end)
        order[#order + 1] = "timer"
      end)
      local idle = uv.new_idle()
      idle:start(function() order[#order + 1] = "idle" idle:close() end)
      check:start(function() order[#order + 1] = "check" check:close() end)
      uv.run()
      co.sleep(0)
      eq(order, { "timer", "idle", "check", "task" })]]
  end)

  it("may wait: libuv goes on, and so does the callback later", function()
    ok[[
      local uv, q = require "luv", mp.Queue()
      local first, second, order = uv.new_timer(), uv.new_timer(), {}
      first:start(1, 0, function() order[1] = q:get() order[2] = "after" first:close() end)
      second:start(5, 0, function() q:put "item" second:close() end)
      uv.run()
      eq(order, { "item", "after" })]]
  end)

  it("may wait where Lua cannot yield, closing its handle, and collect", function()
    ok[[
      local uv, co = require "luv", mp.co
      local fds, a, b, calls = assert(uv.socketpair()), uv.new_tcp(), uv.new_tcp(), 0
      a:open(fds[1])
      b:open(fds[2])
      local function waits() table.sort({ 2, 1 }, function(x, y) co.sleep(0.002) return x < y end) end
      b:read_start(function()
        calls = calls + 1
        b:close()
        b = nil
        for _ = 1, 3 do
          waits()
          collectgarbage()
        end
      end)
      a:write(("x"):rep(200000))
      while b do uv.run "once" end
      a:close()
      eq(uv.run(), false)
      eq(calls, 1)
      collectgarbage()
      collectgarbage()
      eq(uv.loop_close(), 0)]]
  end)

  it("may start processes and wait for them", function()
    ok[[
      local uv, code, fired = require "luv", nil, false
      local t, other = uv.new_timer(), uv.new_timer()
      t:start(1, 0, function()
        t:close()
        local p = P(function()
          local own, mine = uv.new_timer(), nil
          own:start(1, 0, function() mine = true own:close() end)
          eq({ uv.run(), uv.run "nowait" }, { false, false })
          assert(mine and not fired)
        end)
        p:join()
        code = p.exitcode
      end)
      other:start(1, 0, function() fired = true other:close() end)
      uv.run()
      eq({ code, fired }, { 0, true })]]
  end)

  it("that raises is reported, and ends only itself", function()
    ends(0, { "the reason", "script.lua:5", "another" }, [[
      assert(mp)
      local uv, n = require "luv", 0
      local t = uv.new_timer()
      t:start(1, 1, function()
        n = n + 1 if n == 1 then error "the reason" end
        t:close()
        error "another"
      end)
      assert(uv.run() == false and n == 2)]])
  end)

  it("can be killed, and its close handlers run", function()
    ok[[
      local uv, co, task, closed = require "luv", mp.co, nil, false
      local t = uv.new_timer()
      t:start(1, 0, function()
        local _ <close> = setmetatable({}, { __close = function() closed = true end })
        task = co.current()
        t:close()
        co.sleep(100)
      end)
      co.spawn(function()
        until_true(function() return task end)
        task:kill()
      end)
      eq(uv.run(), false)
      assert(closed)]]
  end)

  it("of a due timer wakes the waiting task at once, whatever else is waited for", function()
    ok[[
      local uv, co = require "luv", mp.co
      local server = uv.new_tcp() -- without an end, and without an event
      server:bind("127.0.0.1", 0)
      server:listen(8, function() end)
      local function soon(f)
        local done = co.Event()
        f(function() done:set() end)
        assert(done:wait(10))
      end
      local function busy() local from = uv.hrtime() while uv.hrtime() - from < 3e6 do end end
      for _, kind in ipairs { "prepare", "idle" } do
        soon(function(set) local h = uv["new_" .. kind]() h:start(function() h:close() set() end) end)
      end
      soon(function(set) uv.new_timer():start(1, 0, set) busy() end)
      soon(function(set) local h = uv.new_async(set) h:send() end)
      soon(function(set) uv.new_timer():start(1, 0, function() co.spawn(set) end) busy() end)
      soon(function(set) uv.new_timer():start(1, 0, function() co.sleep(0.001) set() end) busy() end)
      local q = mp.Queue()
      uv.new_timer():start(1, 0, function() q:put(1) end)
      busy()
      eq(q:get(10), 1)]]
  end)
end)
