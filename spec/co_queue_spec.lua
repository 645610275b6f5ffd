-- co.Queue: which task gets which item, in which order, and what is never lost.
local support = require "spec.support"
local ok = support.ok

local function co(code) return ok("local co = require 'mpengine'.co " .. code) end

describe("co.Queue", function()
  it("holds nil, false and tables, in the order of the puts", function()
    co[[
      local q, t = co.Queue(), {}
      for i = 1, 1000 do q:put(i) end
      for i = 1, 500 do eq(q:get(), i) end
      for i = 1001, 3000 do q:put(i) end
      for i = 501, 3000 do eq(q:get(), i) end
      eq(q:put(nil), true) eq(q:put(), true) eq(q:put(false), true) eq(q:put(t), true)
      eq(q:qsize(), 4)
      eq(select("#", q:get()), 1)
      eq(q:get(), nil) eq(q:get(), false)
      assert(q:get() == t)
      eq(table.pack(q:get(0)), table.pack(nil, "empty"))
      eq(q:empty(), true)]]
  end)

  it("has no bound and no join as a SimpleQueue", function()
    co[[
      local q = co.SimpleQueue()
      for i = 1, 1000 do eq(q:put_nowait(i), true) end
      eq(q:full(), false) eq(q:qsize(), 1000)
      for i = 1, 1000 do eq(q:get(), i) end
      local sure, message = pcall(q.join, q)
      eq(sure, false)
      assert(message:find "join", message)
      local reached = co.spawn(q.get, q)
      q:put "last"
      eq(reached:get(), "last")]]
  end)

  it("gives a free place to a waiting producer when its item goes to a waiting consumer", function()
    co[[
      local q = co.Queue(1)
      q:put "a"
      local b, c = co.spawn(q.put, q, "b"), co.spawn(q.put, q, "c")
      co.sleep(0)
      eq(q:get(), "a")
      eq(q:get(), "b") -- was waited for when it came: the place it would have had is free
      eq(c:join(5), true)
      eq(q:get(), "c")]]
  end)

  it("serves consumers and producers in the order of arrival, with no overtaking", function()
    co[[
      local q, order = co.Queue(), {}
      for i = 1, 4 do co.spawn(function() local v = q:get() order[#order + 1] = i .. v end) end
      co.sleep(0)
      for _, v in ipairs{ "a", "b" } do q:put(v) end
      eq(table.pack(q:get(0)), table.pack(nil, "empty")) -- both are handed out
      eq(q:qsize(), 0)
      q:put "c" q:put "d" q:put "e"
      eq(q:get(), "e")
      co.sleep(0)
      eq(order, { "1a", "2b", "3c", "4d" })
      local full = co.Queue(1)
      full:put(0)
      for i = 1, 3 do co.spawn(full.put, full, i) end
      co.sleep(0)
      eq(full:get(), 0)
      eq(table.pack(full:put(9, 0)), table.pack(nil, "full")) -- the place is promised
      for i = 1, 3 do eq(full:get(), i) end]]
  end)

  it("gives nothing to a waiter that timed out or was killed", function()
    co[[
      local q, got = co.Queue(), {}
      local late = co.spawn(function() return q:get(0.02) end)
      local dead = co.spawn(function() return q:get() end)
      local living = co.spawn(function() return q:get() end)
      eq(table.pack(late:get()), table.pack(nil, "empty"))
      dead:kill()
      q:put "x"
      eq(living:get(), "x")
      eq(q:qsize(), 0)
      local full = co.Queue(1)
      full:put(1)
      late = co.spawn(function() return full:put(2, 0.02) end)
      dead = co.spawn(function() return full:put(3) end)
      living = co.spawn(function() return full:put(4) end)
      eq(table.pack(late:get()), table.pack(nil, "full"))
      dead:kill()
      eq(full:get(), 1) eq(full:get(), 4)
      eq(living:get(), true)
      eq(full:get(0), nil)]]
  end)

  it("loses nothing to a kill between the hand-over and the consumer's turn", function()
    co[[
      local q, seen = co.Queue(1), {}
      local taker = co.spawn(function() seen[1] = q:get() q:get() end)
      co.sleep(0)
      q:put "x"
      taker:kill()
      taker:join()
      eq(seen, { "x" })
      eq(q:qsize(), 0)
      q:put "y"
      local putter = co.spawn(function() q:put "z" co.sleep(60) end)
      co.sleep(0)
      eq(q:get(), "y")
      putter:kill()
      putter:join()
      eq(q:get(0), "z")]]
  end)

  it("closed: consumers get what is left, then closed; waiting producers get closed", function()
    co[[
      local q = co.Queue(2)
      q:put(1) q:put(2)
      local putter = co.spawn(function() return q:put(3) end)
      co.sleep(0)
      q:close() q:close()
      eq(table.pack(putter:get()), table.pack(nil, "closed"))
      eq(table.pack(q:put(4)), table.pack(nil, "closed"))
      eq(q:get(), 1) eq(q:get(), 2)
      eq(table.pack(q:get()), table.pack(nil, "closed"))
      local waiting = co.Queue()
      local taker = co.spawn(function() return waiting:get() end)
      co.sleep(0)
      waiting:close()
      eq(table.pack(taker:get()), table.pack(nil, "closed"))
      local list = {}
      local items = co.Queue()
      co.spawn(function() for i = 1, 3 do items:put(i) co.sleep(0) end items:close() end)
      for v in items:iter() do list[#list + 1] = v end
      eq(list, { 1, 2, 3 })]]
  end)

  it("delivers the items it had handed over before it was closed", function()
    co[[
      local q = co.Queue()
      local a, b = co.spawn(function() return q:get() end), co.spawn(function() return q:get() end)
      co.sleep(0)
      q:put "x"
      q:close()
      eq(a:get(), "x")
      eq(table.pack(b:get()), table.pack(nil, "closed"))]]
  end)

  it("is joined when every item is done", function()
    co[[
      local q = co.JoinableQueue()
      eq(q:join(), true)
      q:put(1) q:put(2)
      eq(table.pack(q:join(0)), table.pack(nil, "timeout"))
      co.spawn(function() while true do q:get() co.sleep(0.01) q:task_done() end end)
      eq(q:join(), true)
      raises({ "script.lua:8", "task_done" }, function()
        q:task_done() end)
      raises("JoinableQueue", function() co.Queue():task_done() end)]]
  end)

  it("reports misuse at the caller's line", function()
    co[[
      local q = co.Queue(1)
      raises({ "script.lua:3", "'co.Queue:get'", "timeout" }, function()
        q:get(-1) end)
      raises({ "'co.Queue:put'", "timeout" }, function() q:put(1, 0/0) end)
      raises({ "'co.Queue:put'", "timeout" }, function() q:put(1, "soon") end)
      raises({ "'co.Queue:put'", "mp.co.Queue" }, function() q.put({}, 1) end)
      raises({ "'co.Queue'", "maxsize" }, co.Queue, -1)
      raises("nil item", function() q:put(nil) for _ in q:iter() do end end)
      eq(q:qsize(), 0)
      assert(tostring(q):match "^mp%.co%.Queue: %d+ %(0 of 1 items%)$", tostring(q))
      q:close()
      assert(tostring(q):match "closed")]]
  end)

  it("can be waited for together with other objects", function()
    co[[
      local q, e = co.Queue(), co.Event()
      local t = co.spawn(function() return co.wait({ e, q }, nil, 1)[1] end)
      co.sleep(0)
      q:put(1)
      assert(t:get() == q)
      eq(q:get(0), 1) -- the wait has taken nothing
      t = co.spawn(function() return co.wait({ e, q }, nil, 1)[1] end)
      co.sleep(0)
      q:close()
      assert(t:get() == q)]]
  end)

  it("moves ten thousand items between ten tasks, each once", function()
    co[[
      local q, seen, n = co.Queue(3), {}, 0
      local tasks = {}
      for p = 1, 5 do tasks[p] = co.spawn(function() for i = p, 10000, 5 do q:put(i) end end) end
      for c = 6, 10 do
        tasks[c] = co.spawn(function()
          for v in q:iter() do
            assert(not seen[v])
            seen[v], n = true, n + 1
            if v % 7 == 0 then co.sleep(0) end
          end
        end)
      end
      for p = 1, 5 do tasks[p]:join() end
      q:close()
      for c = 6, 10 do tasks[c]:get() end
      eq(n, 10000)]]
  end)
end)

describe("a queue in a storm of kills and timeouts", function()
  for _, library in ipairs{ "co", "mp" } do
    it("of " .. library .. " loses no item and gives none twice", function()
      ok(([[
        local co = mp.co
        local q, put, got, last = %s.Queue(4), {}, {}, 0
        local function patience() return math.random() < 0.3 and 0.0005 or nil end
        local function rest() if math.random() < 0.3 then co.sleep(math.random() * 0.001) end end
        local function producer()
          while true do
            last = last + 1
            local v = last
            if q:put(v, patience()) then put[v] = true end
            rest()
          end
        end
        local function consumer()
          while true do
            local v = q:get(patience())
            if v then
              assert(not got[v])
              got[v] = true
            end
            rest()
          end
        end
        local tasks = {}
        for i = 1, 12 do tasks[i] = co.spawn(i %% 2 == 0 and producer or consumer) end
        for _ = 1, 500 do
          co.sleep(0.0005)
          local i = math.random(#tasks)
          tasks[i]:kill()
          tasks[i] = co.spawn(i %% 2 == 0 and producer or consumer)
        end
        co.killall(tasks)
        eq(#co.joinall(tasks, 10), #tasks)
        for v in function() return (q:get(0)) end do got[v] = true end
        assert(last > 100)
        for v in pairs(put) do assert(got[v], v) end
        for v in pairs(got) do assert(put[v], v) end]]):format(library), { timeout = 30 })
    end)
  end
end)
