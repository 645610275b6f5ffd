local support = require "spec.support"

local has_luv = pcall(require, "luv")
local describe_luv = has_luv and describe or function(name) pending(name .. ": luv is not installed") end

describe_luv("luv", function()
  local ok, ends = support.ok, support.ends

  it("has its timers called while anything waits", function()
    ok[[
      local uv, n = require "luv", 0
      local t = uv.new_timer()
      t:start(1, 1, function() n = n + 1 if n == 3 then t:close() end end)
      until_true(function() return n == 3 end)]]
  end)

  it("run suspends only the task, until nothing is left", function()
    ok[[
      local uv, co, ticks, fired = require "luv", mp.co, 0, false
      co.spawn(function() while true do ticks = ticks + 1 co.sleep(0.001) end end)
      local t = uv.new_timer()
      t:start(50, 0, function() fired = true t:close() end)
      eq(uv.run(), false)
      assert(fired and ticks > 1)
      eq(uv.loop_alive(), false)
      eq(uv.run(), false)]]
  end)

  it("run ends when another task closes the last handle, and by stop", function()
    ok[[
      local uv, co = require "luv", mp.co
      local t = uv.new_timer()
      t:start(100000, 0, function() end)
      local runner = co.spawn(uv.run)
      co.sleep(0.01)
      uv.stop()
      eq(runner:get(10), true)
      runner = co.spawn(uv.run)
      co.sleep(0.01)
      t:close()
      eq(runner:get(10), false)]]
  end)

  it("may wait in its callbacks", function()
    ok[[
      local uv, co, q = require "luv", mp.co, mp.Queue()
      local t, order = uv.new_timer(), {}
      t:start(1, 0, function() order[1] = q:get() order[2] = "after" t:close() end)
      co.spawn(function() co.sleep(0.02) q:put("item") end)
      uv.run()
      eq(order, { "item", "after" })]]
  end)

  it("survives an error in a callback, which is printed", function()
    ends(0, { "the reason" }, [[
      assert(mp)
      local uv = require "luv"
      local t = uv.new_timer()
      t:start(1, 0, function() t:close() error("the reason") end)
      uv.run()]])
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

  it("starts afresh in a child", function()
    ok[[
      local uv, fired = require "luv", false
      local t = uv.new_timer()
      t:start(100, 0, function() fired = true t:close() end)
      all{ P(function()
        local own
        local c = uv.new_timer()
        c:start(1, 0, function() own = true c:close() end)
        uv.run()
        assert(own and not fired)
      end) }
      uv.run()
      assert(fired)]]
  end)

  it("run waits for a callback that has come and not begun", function()
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

  it("may leave handles open at the end", function()
    ok[[
      assert(mp)
      local uv = require "luv"
      uv.new_timer():start(100000, 0, function() end)
      uv.new_tcp()]]
  end)

  it("has waits that count as I/O: none of them is a deadlock", function()
    ok[[
      local uv, e = require "luv", mp.Event()
      local t = uv.new_timer()
      t:start(30, 0, function() e:set() t:close() end)
      eq(e:wait(), true)]]
  end)
end)
