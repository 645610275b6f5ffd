local support = require "spec.support"
local ok = support.ok

describe("a pipe #later", function()
  it("carries values both ways", function()
    ok[[
      local a, b = mp.Pipe()
      local p = P(function() b:send{ "got", b:recv() } end)
      a:send("hello")
      eq(a:recv(), { "got", "hello" })
      p:join()]]
  end)

  it("that is not duplex has an end that receives and one that sends", function()
    ok[[
      local a, b = mp.Pipe(false)
      b:send(1)
      eq(a:recv(), 1)
      raises({ "send" }, a.send, a, 1)
      raises({ "recv" }, b.recv, b)
      raises({ "recv" }, b.recv, b, 0)]]
  end)

  it("keeps order, and messages apart", function()
    ok[[
      local a, b = mp.Pipe()
      local p = P(function() for i = 1, 1000 do b:send(i) end end)
      for i = 1, 1000 do eq(a:recv(), i) end
      p:join()]]
  end)

  it("carries bytes, empty ones too", function()
    ok[[
      local a, b = mp.Pipe()
      a:send_bytes("a\0b") a:send_bytes("")
      eq(b:poll(), true)
      eq(b:recv_bytes(), "a\0b")
      eq(b:poll(), true)
      eq(b:recv_bytes(), "")
      eq(b:poll(), false)
      raises("send_bytes", a.send_bytes, a, 5)]]
  end)

  it("carries nil, large values and shared objects", function()
    ok([[
      local a, b = mp.Pipe()
      a:send(nil)
      eq(table.pack(b:recv()), { n = 1 })
      local big = ("x"):rep(1 << 24)
      local p = P(function() b:send(b:recv()) end)
      a:send(big)
      assert(a:recv() == big)
      p:join()
      local lock = mp.Lock()
      a:send{ lock }
      assert(b:recv()[1] == lock)]], { timeout = 40 })
  end)

  it("is polled: without a timeout the call does not wait", function()
    ok[[
      local a, b = mp.Pipe()
      eq(b:poll(), false) eq(b:poll(0), false)
      local from = now()
      eq(b:poll(0.05), false)
      late(from, 0.05)
      a:send(1)
      eq(b:poll(), true) eq(b:poll(10), true)
      eq(b:recv(), 1)]]
  end)

  it("receives nothing within the timeout: nil, timeout", function()
    ok[[
      local _, b = mp.Pipe()
      eq(table.pack(b:recv(0)), table.pack(nil, "timeout"))
      local from = now()
      eq(table.pack(b:recv(0.05)), table.pack(nil, "timeout"))
      late(from, 0.05)
      eq(table.pack(b:recv_bytes(0)), table.pack(nil, "timeout"))]]
  end)

  it("is closed when the other end is closed everywhere: first what was sent, then nil, closed", function()
    ok[[
      local a, b = mp.Pipe()
      b:send("last")
      b:close()
      eq(a:poll(), true)
      eq(a:recv(), "last")
      eq(a:poll(), true)
      eq(table.pack(a:recv()), table.pack(nil, "closed"))
      eq(table.pack(a:recv(0)), table.pack(nil, "closed"))
      eq(table.pack(a:send(1)), table.pack(nil, "closed"))]]
  end)

  it("is closed when the process that has the other end exits, or is killed", function()
    ok[[
      for _, how in ipairs{ "exits", "is killed" } do
        local a, b = mp.Pipe()
        local p = P(function(mine)
          mine:send("hello")
          if how == "is killed" then kill(0) mp.sleep(60) end
        end, b)
        b:close()
        eq(a:recv(), "hello")
        eq(table.pack(a:recv(10)), table.pack(nil, "closed"))
        p:join()
      end]]
  end)

  it("wakes a receiver that waits when the other end goes away", function()
    ok[[
      local a, b = mp.Pipe()
      local go, told = mp.Event(), mp.Queue()
      local p = P(function(mine) go:set() told:put(table.pack(mine:recv())) end, a)
      go:wait()
      asleep(p.pid)
      b:close()
      eq(told:get(10), table.pack(nil, "closed"))
      p:join()]]
  end)

  it("cannot be used by the process that closed its end", function()
    ok[[
      local a = mp.Pipe()
      a:close()
      a:close()
      for _, m in ipairs{ "send", "recv", "poll", "send_bytes", "recv_bytes" } do
        raises({ m, "closed" }, a[m], a, m:find("send") and "x" or nil)
      end]]
  end)

  it("raises for a value that cannot be sent and stays usable", function()
    ok[[
      local a, b = mp.Pipe()
      raises("coroutine", a.send, a, { coroutine.create(print) })
      eq(b:poll(), false)
      a:send("fine")
      eq(b:recv(), "fine")]]
  end)

  it("suspends only the task that receives", function()
    ok[[
      local co = mp.co
      local a, b = mp.Pipe()
      local t = co.spawn(function() return b:recv() end)
      co.sleep(0.005)
      a:send("x")
      eq(t:get(), "x")]]
  end)

  it("says what it is", function()
    ok[[
      local a, b = mp.Pipe()
      assert(tostring(a):find("0x", 1, true) and a ~= b)]]
  end)
end)
