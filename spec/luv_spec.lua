local support = require "spec.support"

describe("luv", function()
  local ok, ends = support.ok, support.ends

  it("has its timers called while anything waits", function()
    ok[[
      local uv, n = require "luv", 0
      local t = uv.new_timer()
      t:start(1, 1, function() n = n + 1 if n == 3 then t:close() end end)
      until_true(function() return n == 3 end)]]
  end)

  it("shares the loop with other I/O", function()
    ok[[
      local uv, co = require "luv", mp.co
      local server, got = uv.new_tcp(), nil
      server:bind("127.0.0.1", 0)
      server:listen(1, function()
        local c = uv.new_tcp()
        server:accept(c)
        c:read_start(function(_, data) if data then c:write(data:upper()) else c:close() server:close() end end)
      end)
      local client = uv.new_tcp()
      client:connect("127.0.0.1", server:getsockname().port, function()
        client:read_start(function(_, data) got = data client:close() end)
        client:write("hello")
      end)
      local r = mp.subprocess.run{ "echo", "x" }
      uv.run()
      eq({ got, r.stdout }, { "HELLO", "x\n" })]]
  end)

  it("run waits for a callback that is queued and has not begun", function()
    ok[[
      local uv, fired = require "luv", false
      local e, first, second = mp.co.Event(), uv.new_timer(), uv.new_timer()
      first:start(1, 0, function() e:set() end)
      second:start(1, 0, function() fired = true end)
      uv.sleep(20) -- both are due
      e:wait()
      uv.run()
      assert(fired)]]
  end)

  it("has waits that count as I/O: none of them is a deadlock", function()
    ok[[
      local uv, e = require "luv", mp.Event()
      local t = uv.new_timer()
      t:start(30, 0, function() e:set() t:close() end)
      eq(e:wait(), true)]]
  end)

  it("has callbacks that can wait forever: then uv.run is part of the reported deadlock", function()
    ends(1, { "can never come", "luv's handles and requests at", "script.lua:3", "mp.co.Event" }, [[
      assert(mp) local uv = require "luv"
      uv.new_timer():start(0, 0, function() mp.co.Event():wait() end)
      uv.run()]])
  end)

  it("has a loop of its own when it was loaded first, and a uv.run that waits like any other call", function()
    ok([[
      local uv = require "luv"
      local mp = require "mpengine"
      local t, fired, ticks, slept = uv.new_timer(), 0, 0, false
      mp.co.spawn(function() while not slept do ticks = ticks + 1 mp.sleep(0.001) end end)
      uv.update_time()
      t:start(20, 20, function()
        assert(uv.loop_mode() == "default")
        fired = fired + 1
        if ticks > 1 then t:stop() end
      end)
      assert(uv.run() == false and fired > 0 and ticks > 1 and uv.loop_mode() == nil)
      t:start(100000, 0, print)
      uv.stop()
      assert(uv.run() == true)
      mp.co.spawn(function() mp.sleep(0.01) slept = true end)
      while not slept do uv.run "nowait" end
      t:close()
      assert(uv.run() == false and require "luv" == uv)]], { mode = "stock", plain = true })
  end)
end)
