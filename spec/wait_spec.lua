local support = require "spec.support"
local ok = support.ok

describe("mp.wait #later", function()
  it("gives the ready ones of any mix, in the order they were given", function()
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

  it("gives nothing at the timeout, never early", function()
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

  it("sees the end of the parent", function()
    ok[[
      local q, go = mp.Queue(), mp.Event()
      local p = P(function()
        P(function()
          local parent = mp.parent_process()
          eq(mp.wait({ parent, mp.Event() }, 0), {})
          go:set()
          local ready = mp.wait({ mp.Event(), parent }, 10)
          q:put(#ready == 1 and ready[1] == parent and mp.wait({ parent })[1] == parent)
        end)
        go:wait()
        kill(0)
      end)
      eq(q:get(10), true)]]
  end)

  it("sees the end of a pipe and of a queue", function()
    ok[[
      local a, b = mp.Pipe()
      local q = mp.Queue()
      b:close() q:close()
      eq(#mp.wait({ a, q }, 10), 2)]]
  end)

  it("is woken by a process that has no descriptor left, out of the event loop", function()
    ok[[
      local go, back = mp.Event(), mp.Queue()
      local p = P(function()
        mp.monkey.patch_all()
        local server = require("socket").bind("127.0.0.1", 0)
        mp.co.spawn(function() server:accept() end)
        go:wait()
        back:put(1)
      end)
      asleep(p.pid)
      os.execute(("prlimit --pid %d --nofile=40"):format(mp.current_process().pid))
      local files = {}
      repeat files[#files + 1] = io.open("/dev/null") until #files > 100 or not io.open("/dev/null")
      assert(#files < 100)
      go:set()
      eq(back:get(10), 1)
      for _, f in ipairs(files) do f:close() end]]
  end)

  it("takes nothing from the objects it waits for", function()
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

  it("accepts only a list of things that can be waited for", function()
    ok[[
      raises("wait", mp.wait, 5)
      raises({ "wait", "[2]" }, mp.wait, { mp.Event(), 5 })
      raises({ "wait", "timeout" }, mp.wait, { mp.Event() }, -1)]]
  end)
end)
