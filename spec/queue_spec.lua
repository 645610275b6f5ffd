local support = require "spec.support"
local ok, prints = support.ok, support.prints

describe("a queue", function()
  it("is first in, first out", function()
    ok[[
      local q = mp.Queue()
      for i = 1, 100 do eq(q:put(i), true) end
      for i = 1, 100 do eq(q:get(), i) end]]
  end)

  it("brings items of any kind to another process", function()
    ok[[
      local q, back = mp.Queue(), mp.Queue()
      local items = { 1, 1.0, -0.0, 1e308, math.huge, "", "a\0b", ("x"):rep(100), true, false, { 1, { a = 2 } },
        math.mininteger, math.maxinteger }
      local p = P(function() for _ = 1, #items do back:put(q:get()) end end)
      for i = 1, #items do q:put(items[i]) end
      for i = 1, #items do eq(back:get(), items[i], "item " .. i) end
      p:join()]]
  end)

  it("holds the item when put returns", function()
    ok[[
      local q = mp.Queue()
      for i = 1, 300 do
        q:put({ i })
        eq(q:empty(), false) eq(q:qsize(), 1)
        eq(q:get_nowait(), { i })
        eq(q:empty(), true) eq(q:qsize(), 0)
      end]]
  end)

  it("holds the item as it was when it was put", function()
    ok[[
      local q, t = mp.Queue(), { 1 }
      q:put(t)
      t[1] = 2
      eq(q:get(), { 1 })]]
  end)

  it("without room says full, and never early", function()
    ok[[
      local q = mp.Queue(3)
      for i = 1, 3 do eq(q:full(), false) eq(q:put_nowait(i), true) end
      eq(q:full(), true) eq(q:qsize(), 3)
      eq(table.pack(q:put_nowait(4)), table.pack(nil, "full"))
      eq(table.pack(q:put(4, 0)), table.pack(nil, "full"))
      local t = now()
      eq(table.pack(q:put(4, 0.1)), table.pack(nil, "full"))
      late(t, 0.1)
      eq(q:qsize(), 3)
      eq(q:get(), 1)
      eq(q:put(5, 0), true)
      for _, want in ipairs{ 2, 3, 5 } do eq(q:get(0), want) end]]
  end)

  it("without items says empty, and never early", function()
    ok[[
      local q = mp.Queue()
      eq(table.pack(q:get_nowait()), table.pack(nil, "empty"))
      eq(table.pack(q:get(0)), table.pack(nil, "empty"))
      local t = now()
      eq(table.pack(q:get(0.1)), table.pack(nil, "empty"))
      late(t, 0.1)]]
  end)

  it("without a size, or of size 0, is never full", function()
    ok[[
      for _, q in ipairs{ mp.Queue(), mp.Queue(0) } do
        for i = 1, 5000 do eq(q:put(i, 0), true) end
        eq(q:full(), false)
        eq(q:qsize(), 5000)
      end]]
  end)

  it("takes nil and false as items", function()
    ok[[
      local q = mp.Queue()
      q:put(nil) q:put(false) q:put(nil)
      eq(q:qsize(), 3)
      eq(table.pack(q:get()), { n = 1 })
      eq(table.pack(q:get(1)), { false, n = 1 })
      eq(table.pack(q:get_nowait()), { n = 1 })
      eq(table.pack(q:get_nowait()), table.pack(nil, "empty"))]]
  end)

  it("raises for a value that cannot be sent, and stores nothing", function()
    ok[[
      local q = mp.Queue()
      raises("coroutine", q.put, q, coroutine.create(print))
      raises("coroutine", q.put, q, { 1, 2, { deep = { coroutine.create(print) } } })
      eq(q:qsize(), 0)
      q:put("fine")
      eq(q:get(), "fine")]]
  end)

  it("wakes a waiting get", function()
    ok[[
      local q, ready, back = mp.Queue(), mp.Event(), mp.Queue()
      local p = P(function() ready:set() back:put(q:get() + 1) end)
      ready:wait()
      asleep(p.pid)
      q:put(1)
      eq(back:get(), 2)
      p:join()]]
  end)

  it("wakes a waiting put", function()
    ok[[
      local q, ready = mp.Queue(1), mp.Event()
      q:put(1)
      local p = P(function() ready:set() assert(q:put(2) == true) end)
      ready:wait()
      asleep(p.pid)
      eq(q:get(), 1) eq(q:get(), 2)
      all{ p }]]
  end)

  it("loses and doubles nothing between three producers and three consumers", function()
    ok([[
      local q, results, list = mp.Queue(7), mp.Queue(), {}
      for i = 1, 3 do
        list[#list + 1] = P(function()
          for n = 1, 2000 do q:put(i * 10000 + n) end
        end)
      end
      local consumers = {}
      for i = 1, 3 do
        consumers[i] = P(function()
          local seen, last = {}, {}
          for v in q:iter() do
            local from = v // 10000
            assert(v > (last[from] or 0), "the items of one producer came out of order")
            last[from] = v
            seen[#seen + 1] = v
          end
          results:put(seen)
        end)
      end
      all(list)
      q:close()
      local count, seen = 0, {}
      for _ = 1, 3 do
        for _, v in ipairs(results:get()) do
          assert(not seen[v], "twice")
          seen[v] = true
          count = count + 1
        end
      end
      eq(count, 6000)
      all(consumers)]], { timeout = 40 })
  end)

  it("carries large items, also through a bound of one", function()
    ok([[
      local q = mp.Queue(1)
      local big = ("0123456789abcdef"):rep(1 << 18)
      local p = P(function() for _ = 1, 3 do q:put(big) end end)
      for _ = 1, 3 do assert(q:get() == big) end
      all{ p }]], { timeout = 40 })
  end)

  it("does not keep a process from ending when its items were not taken", function()
    ok[[
      local q = mp.Queue()
      local p = P(function() q:put(("x"):rep(1 << 20)) end)
      eq(p:join(), true)
      eq(p.exitcode, 0)
      eq(#q:get(0), 1 << 20)]]
  end)

  it("keeps the items of a process that was killed after put returned", function()
    ok[[
      local q = mp.Queue()
      local p = P(function() for i = 1, 5 do q:put(i) end kill(0) mp.sleep(60) end)
      p:join()
      eq(p.exitcode, -9)
      for i = 1, 5 do eq(q:get(0), i) end]]
  end)

  it("made at any time can be sent to a process that runs already", function()
    ok[[
      local q = mp.Queue()
      local p = P(function() q:get():put("hello") end)
      local other = mp.Queue()
      q:put(other)
      eq(other:get(), "hello")
      p:join()]]
  end)

  it("can be sent through itself", function()
    ok[[
      local q = mp.Queue()
      q:put(q)
      assert(q:get() == q)]]
  end)

  it("suspends only the task that waits for it", function()
    ok[[
      local co, q = mp.co, mp.Queue()
      local ticks = 0
      local t = co.spawn(function() return q:get() end)
      for _ = 1, 5 do co.sleep(0.001) ticks = ticks + 1 end
      q:put("late")
      eq(t:get(), "late")
      eq(ticks, 5)]]
  end)

  it("gives each of the waiting tasks of a process one item", function()
    ok[[
      local co, q, sum = mp.co, mp.Queue(), 0
      local tasks = {}
      for i = 1, 10 do tasks[i] = co.spawn(function() local v = q:get() sum = sum + v end) end
      co.sleep(0)
      P(function() for i = 1, 10 do q:put(i) end end)
      co.joinall(tasks)
      eq(sum, 55)
      eq(q:qsize(), 0)]]
  end)

  it("loses no item to a get that has timed out", function()
    ok[[
      local co, q = mp.co, mp.Queue()
      local t = co.spawn(function() return q:get(0.02) end)
      eq(table.pack(t:get()), table.pack(nil, "empty"))
      q:put(1)
      eq(q:qsize(), 1)
      eq(q:get(0), 1)]]
  end)

  it("can be waited for in a coroutine of the script", function()
    ok[[
      local q = mp.Queue()
      P(function() mp.sleep(0.05) for i = 1, 3 do q:put(i) end q:close() end)
      local items = coroutine.wrap(function()
        while true do
          local v, why = q:get()
          if v == nil then return coroutine.yield(why) end
          coroutine.yield(v)
        end
      end)
      eq({ items(), items(), items(), items() }, { 1, 2, 3, "closed" })]]
  end)

  it("says what it is, and is equal to itself in another process", function()
    ok[[
      local q, back = mp.Queue(5), mp.Queue()
      assert(tostring(q):find("^mp%.Queue: 0x"), tostring(q))
      eq(getmetatable(q).__name, "mp.Queue")
      eq(getmetatable(mp.JoinableQueue()).__name, "mp.JoinableQueue")
      assert(tostring(mp.JoinableQueue()):find("^mp%.JoinableQueue: 0x"))
      back:put{ q, q, back }
      local t = back:get()
      assert(t[1] == q and t[2] == q and t[3] == back and t[1] ~= back)
      local p = P(function(a, b) assert(a == q and b == back and a ~= b) end, q, back)
      all{ p }]]
  end)
end)

describe("a closed queue", function()
  it("gives what it has, then nil, closed; and takes nothing", function()
    ok[[
      local q = mp.Queue()
      q:put(1) q:put(nil)
      q:close()
      q:close()
      eq(table.pack(q:put(2)), table.pack(nil, "closed"))
      eq(table.pack(q:put_nowait(2)), table.pack(nil, "closed"))
      eq(q:get(), 1)
      eq(table.pack(q:get()), { n = 1 })
      eq(table.pack(q:get()), table.pack(nil, "closed"))
      eq(table.pack(q:get_nowait()), table.pack(nil, "closed"))
      eq(table.pack(q:get(1)), table.pack(nil, "closed"))]]
  end)

  it("is closed for every process", function()
    ok[[
      local q = mp.Queue()
      P(function() q:put(1) q:close() end):join()
      eq(table.pack(q:put(2)), table.pack(nil, "closed"))
      eq(q:get(), 1)
      eq(table.pack(q:get()), table.pack(nil, "closed"))]]
  end)

  it("wakes waiting consumers and producers", function()
    ok[[
      local empty, full, ready, told = mp.Queue(), mp.Queue(1), mp.Queue(), mp.Queue()
      full:put(1)
      local list = {}
      for i = 1, 2 do
        list[#list + 1] = P(function() ready:put(1) told:put(table.pack(empty:get())) end)
        list[#list + 1] = P(function() ready:put(1) told:put(table.pack(full:put(i))) end)
      end
      for _ = 1, 4 do ready:get() end
      for _, p in ipairs(list) do asleep(p.pid) end
      empty:close() full:close()
      for _ = 1, 4 do eq(told:get(), table.pack(nil, "closed")) end
      all(list)]]
  end)

  it("is walked by iter until it is drained", function()
    prints("1\n2\nfalse\nend\n", [[
      local q = mp.Queue()
      q:put(1) q:put(2) q:put(false)
      q:close()
      for v in q:iter() do print(v) end
      print "end"]])
  end)

  it("is walked by iter while it is filled", function()
    ok[[
      local q, sum = mp.Queue(2), 0
      P(function() for i = 1, 100 do q:put(i) end q:close() end)
      for v in q:iter() do sum = sum + v end
      eq(sum, 5050)]]
  end)
end)

describe("a joinable queue #later", function()
  it("is joined when every item is done", function()
    ok[[
      local q, done = mp.JoinableQueue(), mp.Value("i", 0)
      eq(q:join(), true)
      for i = 1, 20 do q:put(i) end
      for _ = 1, 2 do
        mp.Process{ daemon = true, target = function()
          while true do q:get() done:add(1) q:task_done() end
        end }:start()
      end
      eq(q:join(), true)
      eq(done.value, 20)]]
  end)

  it("is not joined before: nil, timeout", function()
    ok[[
      local q = mp.JoinableQueue()
      q:put(1)
      eq(table.pack(q:join(0)), table.pack(nil, "timeout"))
      q:get()
      local t = now()
      eq(table.pack(q:join(0.05)), table.pack(nil, "timeout"))
      late(t, 0.05)
      q:task_done()
      eq(q:join(0), true)]]
  end)

  it("raises when more tasks are done than were put", function()
    ok[[
      local q = mp.JoinableQueue()
      raises("task_done", q.task_done, q)
      q:put(1) q:get() q:task_done()
      raises("task_done", q.task_done, q)]]
  end)

  it("counts the tasks done by another process", function()
    ok[[
      local q = mp.JoinableQueue(2)
      local p = P(function() for _ = 1, 3 do mp.sleep(0.01) q:get() q:task_done() end end)
      for i = 1, 3 do q:put(i) end
      eq(q:join(10), true)
      all{ p }]]
  end)
end)

describe("a simple queue #later", function()
  it("is a queue without a bound", function()
    ok[[
      local q = mp.SimpleQueue()
      eq(q:empty(), true)
      P(function() for i = 1, 3 do q:put(i) end end):join()
      eq(q:empty(), false)
      for i = 1, 3 do eq(q:get(), i) end
      q:close() q:close()]]
  end)
end)
