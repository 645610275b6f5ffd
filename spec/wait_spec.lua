local support = require "spec.support"
local ok = support.ok

describe("mp.wait #later", function()
  it("gives those that are ready of any mix, in the order they were given", function()
    ok[[
      local q, e, idle = mp.Queue(), mp.Event(), mp.Queue()
      local a, b = mp.Pipe()
      local p = P(function() end)
      local pool <close> = mp.Pool(1)
      local r = pool:apply_async(function() end)
      local t = mp.co.spawn(function() end)
      p:join() r:wait() t:join()
      q:put(1) e:set() b:send(1)
      local ready = mp.wait({ idle, p, q, a, e, r, t, mp.Event() })
      eq(#ready, 6)
      for i, o in ipairs{ p, q, a, e, r, t } do assert(ready[i] == o, i) end
      eq(q:get(0), 1) eq(a:recv(0), 1)]]
  end)

  it("waits until one is ready", function()
    ok[[
      local q, e, never = mp.Queue(), mp.Event(), mp.Event()
      local go = mp.Event()
      P(function() go:wait() q:put("x") end)
      P(function() never:wait(0.05) end)
      mp.co.spawn(function() mp.sleep(0.02) go:set() end)
      local ready = mp.wait{ never, q, e }
      eq(#ready, 1)
      assert(ready[1] == q)
      eq(q:get(0), "x")]]
  end)

  it("gives none at the timeout, never early", function()
    ok[[
      eq(mp.wait({}), {})
      eq(mp.wait({ mp.Event(), mp.Queue() }, 0), {})
      local from = now()
      eq(mp.wait({ mp.Event(), mp.Queue() }, 0.1), {})
      late(from, 0.1)]]
  end)

  it("sees the end of a process, also by kill -9", function()
    ok[[
      local go = mp.Event()
      local a, b = P(function() go:wait() end), P(function() go:wait() end)
      eq(mp.wait({ a, b }, 0), {})
      b:kill()
      local ready = mp.wait({ a, b }, 10)
      eq(#ready, 1)
      assert(ready[1] == b)
      go:set()
      a:join()]]
  end)

  it("sees the end of a pipe and of a queue", function()
    ok[[
      local a, b = mp.Pipe()
      local q = mp.Queue()
      b:close() q:close()
      eq(#mp.wait({ a, q }, 10), 2)]]
  end)

  it("takes nothing from what it waits for", function()
    ok[[
      local q = mp.Queue()
      q:put(1)
      for _ = 1, 3 do eq(#mp.wait({ q }, 0), 1) end
      eq(q:qsize(), 1)]]
  end)

  it("suspends only the task", function()
    ok[[
      local co, e = mp.co, mp.Event()
      local t = co.spawn(function() return #mp.wait{ e, mp.Queue() } end)
      co.sleep(0.005)
      e:set()
      eq(t:get(), 1)]]
  end)

  it("takes a list of what can be waited for", function()
    ok[[
      raises("wait", mp.wait, 5)
      raises({ "wait", "[2]" }, mp.wait, { mp.Event(), 5 })
      raises({ "wait", "timeout" }, mp.wait, { mp.Event() }, -1)]]
  end)
end)
