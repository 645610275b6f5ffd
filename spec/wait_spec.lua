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

-- The same objects of both families; a fact runs once for each.
for family, constructors in pairs{ mp = "mp", co = "mp.co" } do
  describe("mp.wait and co.wait of objects of " .. family, function()
    local function with(code) return ok((code:gsub("FAMILY", constructors))) end

    it("see as ready what a try would take now, and take nothing", function()
      with[[
        local F, co = FAMILY, mp.co
        local list = { F.Lock(), F.RLock(), F.Semaphore(1), F.BoundedSemaphore(1) }
        local event, queue, joinable = F.Event(), F.Queue(), F.JoinableQueue()
        local all = { event, queue, joinable, table.unpack(list) }
        for _ = 1, 2 do
          eq(mp.wait(all, 0), list)
          eq(co.wait(all, 0), list)
        end
        for _, x in ipairs(list) do x:acquire() end
        event:set() queue:put(1) joinable:close()
        co.spawn(function()
          eq(mp.wait(all, 0), { event, queue, joinable })
          eq(co.wait(all, 0), { event, queue, joinable })
        end):get()
        assert(mp.wait({ list[2] }, 0)[1] == list[2], "an RLock is ready for its owner")]]
    end)

    it("wake when one becomes ready", function()
      with[[
        local F, co = FAMILY, mp.co
        local function turn(x, make_ready)
          for _, wait in ipairs{ mp.wait, co.wait } do
            local never = F.Event()
            local t = co.spawn(function()
              for y in co.iwait({ never, x }, 10) do return y end
            end)
            local u = co.spawn(function() return wait({ x, never }, 10, 1)[1] end)
            co.sleep(0.001)
            assert(not t:ready() and not u:ready())
            local undo = make_ready()
            assert(t:get() == x and u:get() == x)
            undo()
          end
        end
        for _, name in ipairs{ "Lock", "RLock", "Semaphore", "BoundedSemaphore" } do
          local x = F[name]()
          x:acquire()
          turn(x, function() x:release() return function() x:acquire() end end)
        end
        local e, q = F.Event(), F.JoinableQueue()
        turn(e, function() e:set() return function() e:clear() end end)
        turn(q, function() q:put(1) return function() q:get() end end)
        local closed = F.Queue()
        co.spawn(function() closed:close() end)
        eq(mp.wait({ closed }, 10), { closed })]]
    end)

    it("give a turn that they do not use to a task that acquires", function()
      with[[
        local F, co = FAMILY, mp.co
        for _, name in ipairs{ "Lock", "RLock", "Semaphore" } do
          for _, wait in ipairs{ mp.wait, co.wait } do
            local x = F[name]()
            x:acquire()
            local first = co.spawn(function() return #wait({ x }, 10) end)
            co.sleep(0)
            local second = co.spawn(function() eq(x:acquire(10), true) x:release() return "had it" end)
            co.sleep(0)
            local third = co.spawn(function() return #wait({ x }, 10) end)
            co.sleep(0)
            x:release()
            eq(second:get(10), "had it")
            eq(first:get(10), 1) eq(third:get(10), 1)
          end
        end]]
    end)

    it("refuse a Condition, and say what to use", function()
      with[[
        local F, co = FAMILY, mp.co
        raises({ "wait: list[1]", "condition", "wait_for" }, mp.wait, { F.Condition() })
        raises({ "co.wait: list[2]", "condition" }, co.wait, { F.Event(), F.Condition() })
        raises({ "co.iwait: list[1]", "condition" }, co.iwait, { F.Condition() })]]
    end)
  end)
end

describe("what mp.wait and co.wait refuse", function()
  it("is told with the reason", function()
    ok[[
      local co = mp.co
      local receiver, sender = mp.Pipe(false)
      for call, wait in pairs{ ["wait: "] = mp.wait, ["co.wait: "] = co.wait, ["co.iwait: "] = co.iwait } do
        raises({ call, "[1]", "barrier" }, wait, { mp.Barrier(2) })
        raises({ call, "[1]", "lock", "queue", "expected, got mp.Dict" }, wait, { mp.Dict() })
        raises({ call, "[1]", "expected, got string" }, wait, { "text" })
        raises({ call, "[1]", "only sends" }, wait, { sender })
        raises({ call, "[1]", "not been started" }, wait, { mp.Process(print) })
        raises({ call, "[1]", "itself" }, wait, { mp.current_process() })
      end
      receiver:close()
      raises({ "wait: list[1]", "closed" }, mp.wait, { receiver })]]
  end)
end)

describe("mp.wait and locks of several processes", function()
  it("lets another process have the lock that it was woken for", function()
    ok[[
      local l, s, got, ready = mp.Lock(), mp.Semaphore(0), mp.Queue(), mp.Queue()
      l:acquire()
      local list = {}
      for i = 1, 2 do
        list[#list + 1] = P(function() ready:put(1) got:put(#mp.wait({ l }, 20) + #mp.wait({ s }, 20)) end)
        list[#list + 1] = P(function() ready:put(1) l:acquire() l:release() s:acquire() s:release() got:put(2) end)
      end
      for _ = 1, 4 do ready:get() end
      for _, p in ipairs(list) do asleep(p.pid) end
      l:release() s:release()
      for _ = 1, 4 do eq(got:get(20), 2) end
      all(list)]]
  end)

  it("sees a lock free and a permit back when their owner is killed", function()
    ok[[
      local l, s, q = mp.RLock(), mp.Semaphore(1), mp.Queue()
      local p = P(function() l:acquire() s:acquire() q:put(1) mp.sleep(60) end)
      q:get()
      eq(mp.wait({ l, s }, 0), {})
      local t = mp.co.spawn(function() return #mp.co.wait({ l, s }, 20) end)
      mp.sleep(0)
      p:kill()
      eq(t:get(), 2)
      eq(table.pack(l:acquire()), table.pack(true, "owner_died"))]]
  end)
end)
