local support = require "spec.support"
local ok = support.ok

-- A process is killed with kill -9 while it holds an object or waits for one. What it held is
-- released, and no other process is affected.

for _, kind in ipairs{ "Lock", "RLock" } do
  describe("a " .. kind .. " whose owner is killed", function()
    local function with(code) return ok((code:gsub("KIND", kind))) end

    it("goes to the next acquirer at once, which gets owner_died", function()
      with[[
        local l, q = mp.KIND(), mp.Queue()
        local p = P(function() l:acquire() q:put(1) mp.sleep(60) end)
        q:get()
        p:kill()
        local from = now()
        eq(table.pack(l:acquire(15)), table.pack(true, "owner_died"))
        assert(now() - from < 5, "took " .. now() - from .. " s")
        l:release()
        eq(table.pack(l:acquire(0)), table.pack(true))
        l:release()
        p:join()
        eq(p.exitcode, -9)]]
    end)

    it("goes to a waiting process, which gets owner_died", function()
      with[[
        local l, q, told = mp.KIND(), mp.Queue(), mp.Queue()
        local owner = P(function() l:acquire() q:put(1) mp.sleep(60) end)
        q:get()
        local waiter = P(function() q:put(1) told:put(table.pack(l:acquire())) l:release() end)
        q:get()
        asleep(waiter.pid)
        owner:kill()
        eq(told:get(15), table.pack(true, "owner_died"))
        all{ waiter }
        eq(table.pack(l:acquire(10)), table.pack(true))]]
    end)

    it("goes to a waiting task, while the others go on", function()
      with[[
        local co, l, q = mp.co, mp.KIND(), mp.Queue()
        local p = P(function() l:acquire() q:put(1) mp.sleep(60) end)
        q:get()
        local t = co.spawn(function() return l:acquire() end)
        for _ = 1, 5 do co.sleep(0.001) end
        p:kill()
        eq(table.pack(t:get(15)), table.pack(true, "owner_died"))]]
    end)

    it("reports the death to one waiter only, and lets all of them in", function()
      with[[
        local l, q, told, list = mp.KIND(), mp.Queue(), mp.Queue(), {}
        local owner = P(function() l:acquire() q:put(1) mp.sleep(60) end)
        q:get()
        for i = 1, 4 do
          list[i] = P(function()
            q:put(1)
            local _, why = l:acquire()
            told:put(why or "plain")
            l:release()
          end)
        end
        for _ = 1, 4 do q:get() end
        owner:kill()
        local count = { plain = 0, owner_died = 0 }
        for _ = 1, 4 do
          local how = told:get(15)
          count[how] = count[how] + 1
        end
        eq(count, { plain = 3, owner_died = 1 })
        all(list)]]
    end)

    it("reports the death by its guard, and lets the guard close", function()
      with[[
        local l = mp.KIND()
        local p = P(function() l:acquire() kill(0) mp.sleep(60) end)
        p:join()
        do
          local g <close>, why = l:guard(10)
          assert(g)
          eq(why, "owner_died")
        end
        eq(table.pack(l:acquire(0)), table.pack(true))]]
    end)

    it("reports the death however the owner died: exit, error, os.exit, signals, in a grandchild", function()
      local code = [[
        local l = mp.KIND()
        local ends = {
          exit = function() end, error = function() error("x") end, os_exit = function() os.exit(3) end,
          segv = function() kill(0, "SEGV") mp.sleep(60) end, abrt = function() kill(0, "ABRT") mp.sleep(60) end,
          term = function() kill(0, "TERM") mp.sleep(60) end, kill9 = function() kill(0) mp.sleep(60) end,
        }
        for name, how in pairs(ends) do
          for depth = 1, 2 do
            local function body() l:acquire() how() end
            local p = P(depth == 1 and body or function() P(body):join() end)
            p:join()
            eq(table.pack(l:acquire(15)), table.pack(true, "owner_died"), name)
            l:release()
          end
        end
        print "all"]]
      local r = support.run((code:gsub("KIND", kind)))
      assert.same({ 0, "all\n" }, { r.status, r.stdout }, r.stderr)
    end)

    it("survives a hundred owners, one after the other", function()
      with[[
        local l, n = mp.KIND(), 0
        for i = 1, 100 do
          local p = P(function() l:acquire() kill(0) mp.sleep(60) end)
          p:join()
          local got, why = l:acquire(10)
          eq(got, true, i) eq(why, "owner_died", i)
          l:release()
        end]]
    end)

    it("is not taken from a process that is only stopped", function()
      with[[
        local l, q = mp.KIND(), mp.Queue()
        local other = P(function() l:acquire() kill(0, "STOP") q:put(1) l:release() end)
        until_true(function() return state(other.pid) == "T" end)
        eq(table.pack(l:acquire(0.1)), table.pack(nil, "timeout"))
        kill(other.pid, "CONT")
        q:get()
        eq(table.pack(l:acquire(10)), table.pack(true))
        l:release()
        all{ other }]]
    end)
  end)
end

describe("an RLock taken several times by a process that is killed", function()
  it("is wholly free", function()
    ok[[
      local l = mp.RLock()
      P(function() for _ = 1, 5 do l:acquire() end kill(0) mp.sleep(60) end):join()
      eq(table.pack(l:acquire(10)), table.pack(true, "owner_died"))
      l:release()
      raises("release", l.release, l)]]
  end)
end)

describe("the lock of an array", function()
  it("recovers like any other", function()
    ok[[
      local a = mp.Array("i", 3)
      P(function() a:get_lock():acquire() a[1] = 5 kill(0) mp.sleep(60) end):join()
      local g <close>, why = a:guard(10)
      assert(g)
      eq(why, "owner_died")
      eq(a[1], 5)]]
  end)
end)

describe("a condition", function()
  it("whose lock's owner is killed reports it to the next owner", function()
    ok[[
      local c = mp.Condition()
      P(function() c:acquire() kill(0) mp.sleep(60) end):join()
      eq(table.pack(c:acquire(10)), table.pack(true, "owner_died"))
      c:notify_all()
      c:release()]]
  end)

  it("loses no notify to a waiter that was killed before", function()
    ok[[
      local c, waiting, woken = mp.Condition(), mp.Value("i", 0), mp.Queue()
      local function waiter() c:acquire() waiting:add(1) c:wait() woken:put(1) c:release() end
      local dying = P(waiter)
      until_true(function() return waiting.value == 1 end)
      local other = P(waiter)
      until_true(function() return waiting.value == 2 end)
      c:with(function() end)
      dying:kill()
      dying:join()
      c:with(function() c:notify() end)
      eq(woken:get(10), 1)
      all{ other }]]
  end)

  it("passes on the notify of a waiter that was killed before it woke", function()
    ok[[
      local c, waiting, woken = mp.Condition(), mp.Value("i", 0), mp.Queue()
      local function waiter() c:acquire() waiting:add(1) c:wait() woken:put(1) c:release() end
      local dying = P(waiter)
      until_true(function() return waiting.value == 1 end)
      local other = P(waiter)
      until_true(function() return waiting.value == 2 end)
      c:with(function() end)
      kill(dying.pid, "STOP")
      c:with(function() c:notify() end)
      kill(dying.pid)
      dying:join()
      eq(woken:get(10), 1)
      all{ other }]]
  end)
end)

describe("an event", function()
  it("wakes the others when one of the waiters was killed", function()
    ok[[
      local e, ready, list = mp.Event(), mp.Queue(), {}
      for i = 1, 4 do list[i] = P(function() ready:put(1) eq(e:wait(), true) end) end
      for _ = 1, 4 do ready:get() end
      for _, p in ipairs(list) do asleep(p.pid) end
      list[1]:kill() list[2]:kill()
      list[1]:join()
      e:set()
      all{ list[3], list[4] }
      e:clear() e:set()
      eq(e:wait(0), true)]]
  end)
end)

describe("a semaphore", function()
  it("gets back the permits of a process that was killed, silently", function()
    ok[[
      local s = mp.Semaphore(3)
      local q = mp.Queue()
      local p = P(function() s:acquire() s:acquire() q:put(1) mp.sleep(60) end)
      q:get()
      eq(s:get_value(), 1)
      s:acquire()
      p:kill()
      eq(table.pack(s:acquire(10)), table.pack(true))
      eq(table.pack(s:acquire(10)), table.pack(true))
      eq(table.pack(s:acquire(0)), table.pack(nil, "timeout"))]]
  end)

  it("wakes the waiters for the permits of a process that is killed", function()
    ok[[
      local s, q = mp.Semaphore(1), mp.Queue()
      local p = P(function() s:acquire() q:put(1) mp.sleep(60) end)
      q:get()
      local waiter = P(function() q:put(1) eq(table.pack(s:acquire()), table.pack(true)) end)
      q:get()
      asleep(waiter.pid)
      p:kill()
      all{ waiter }]]
  end)

  it("does not return a permit that was released already", function()
    ok[[
      local s = mp.Semaphore(1)
      P(function() for _ = 1, 3 do s:acquire() s:release() end kill(0) mp.sleep(60) end):join()
      eq(s:acquire(10), true)
      eq(table.pack(s:acquire(0)), table.pack(nil, "timeout"))]]
  end)

  it("keeps the permits that a process which was killed had added", function()
    ok[[
      local s = mp.Semaphore(0)
      P(function() s:release() s:release() kill(0) mp.sleep(60) end):join()
      eq(s:acquire(10), true) eq(s:acquire(10), true)
      eq(table.pack(s:acquire(0)), table.pack(nil, "timeout"))]]
  end)

  it("loses no release to a waiter that is killed", function()
    ok[[
      for _ = 1, 20 do
        local s, q = mp.Semaphore(0), mp.Queue()
        local dying = P(function() q:put(1) s:acquire() mp.sleep(60) end)
        q:get()
        local other = P(function() q:put(1) s:acquire() end)
        q:get()
        s:release()
        dying:kill()
        all{ other }
      end]]
  end)
end)

-- A waiter that is stopped is the one that a wake-up meets; then it is killed.
describe("a wake-up meant for a process that is killed", function()
  local function passes_on(make)
    ok([[
      local wait, give = (]] .. make .. [[)()
      local q = mp.Queue()
      local dying = P(function() q:put(1) wait() mp.sleep(60) end)
      q:get()
      asleep(dying.pid)
      local other = P(function() q:put(1) wait() end)
      q:get()
      asleep(other.pid)
      kill(dying.pid, "STOP")
      give()
      kill(dying.pid)
      eq(other:join(10), true)
      eq(other.exitcode, 0)]])
  end

  it("goes on to the next: an item of a queue", function()
    passes_on[[function() local x = mp.Queue() return function() x:get() end, function() x:put("item") end end]]
  end)

  it("goes on to the next: room in a queue", function()
    passes_on[[function() local x = mp.Queue(1) x:put(1)
      return function() x:put(2) end, function() x:get() end end]]
  end)

  it("goes on to the next: a lock", function()
    passes_on[[function() local x = mp.Lock() x:acquire()
      return function() x:acquire() end, function() x:release() end end]]
  end)

  it("goes on to the next: a permit of a semaphore", function()
    passes_on[[function() local x = mp.Semaphore(0) return function() x:acquire() end, function() x:release() end end]]
  end)

  it("goes on to the next: the end of a queue", function()
    passes_on[[function() local x = mp.Queue() return function() x:get() end, function() x:close() end end]]
  end)
end)

describe("a queue", function()
  it("stays usable when a process that waits in get, or in put, is killed", function()
    ok[[
      local empty, full, q = mp.Queue(), mp.Queue(1), mp.Queue()
      full:put("first")
      for _ = 1, 10 do
        local a = P(function() q:put(1) empty:get() end)
        local b = P(function() q:put(1) full:put("never") end)
        q:get() q:get()
        asleep(a.pid) asleep(b.pid)
        a:kill() b:kill()
        a:join() b:join()
      end
      empty:put("x")
      eq(empty:get(0), "x")
      eq(full:get(0), "first")
      eq(table.pack(full:get(0)), table.pack(nil, "empty"))
      eq(full:put("y", 0), true)
      eq(full:get(0), "y")]]
  end)

  it("tears no item and keeps order when its producers are killed at any moment", function()
    ok([[
      local q = mp.Queue(16)
      for round = 1, 40 do
        local p = P(function()
          local i = 0
          while true do
            i = i + 1
            q:put{ round, i, ("x"):rep(i * 37 % 5000), i }
          end
        end)
        local last = {}
        local function check(item)
          eq(item[2], item[4])
          eq(#item[3], item[2] * 37 % 5000)
          local from = item[1]
          eq(item[2], (last[from] or 0) + 1)
          last[from] = item[2]
        end
        for _ = 1, round * 3 do check(q:get(10)) end
        p:kill()
        p:join()
        while true do
          local item = q:get(0)
          if item == nil then break end
          check(item)
        end
        eq(q:qsize(), 0)
      end]], { timeout = 60 })
  end)

  it("loses at most the item that was taken when its consumers are killed at any moment", function()
    ok([[
      local q, seen = mp.Queue(), mp.Dict()
      local killed, total = 30, 0
      for round = 1, killed do
        for i = 1, 50 do total = total + 1 q:put(total) end
        local before = #seen
        local p = P(function()
          while true do
            local v = q:get()
            assert(seen:incr(v) == 1)
          end
        end)
        until_true(function() return #seen >= before + round % 7 end)
        p:kill()
        p:join()
      end
      while true do
        local v = q:get(0)
        if v == nil then break end
        eq(seen:incr(v), 1)
      end
      assert(total - #seen <= killed, total - #seen .. " items lost")]], { timeout = 60 })
  end)

  it("is not closed by the death of a process", function()
    ok[[
      local q = mp.Queue()
      P(function() q:put(1) kill(0) mp.sleep(60) end):join()
      eq(q:get(0), 1)
      eq(table.pack(q:get(0)), table.pack(nil, "empty"))]]
  end)
end)

describe("a dict", function()
  it("stays whole when its writers are killed at any moment", function()
    ok([[
      local d = mp.Dict()
      for round = 1, 40 do
        local started = mp.Event()
        local p = P(function()
          local i = 0
          while true do
            i = i + 1
            local k = "k" .. i % 20
            d[k] = { i, ("v"):rep(i % 700), i }
            if i % 3 == 0 then d["k" .. (i + 7) % 20] = nil end
            if i % 50 == 0 then d:incr("n") started:set() end
          end
        end)
        started:wait(10)
        p:kill()
        for k, v in pairs(d) do
          if k ~= "n" then
            eq(v[1], v[3])
            eq(#v[2], v[1] % 700)
          end
        end
        local n = 0
        for _ in pairs(d) do n = n + 1 end
        p:join()
        eq(#d, #d:keys())
        d.mine = round
        eq(d.mine, round)
        d.mine = nil
      end
      d:clear()
      eq(#d, 0)]], { timeout = 60 })
  end)

  it("is not changed by a modify whose process was killed in it", function()
    ok[[
      local d = mp.Dict{ a = 1 }
      P(function() d:modify("a", function() kill(0) mp.sleep(60) end) end):join()
      eq(d.a, 1)
      eq(d:modify("a", function(v) return v + 1 end), 2)]]
  end)
end)

describe("a barrier #later", function()
  it("is broken by the death of a process that waits in it", function()
    ok[[
      local b, told = mp.Barrier(3), mp.Queue()
      local dying = P(function() b:wait() end)
      local other = P(function() told:put(table.pack(b:wait())) end)
      until_true(function() return b.n_waiting == 2 end)
      dying:kill()
      eq(told:get(10), table.pack(nil, "broken"))
      all{ other }
      eq(b.broken, true)
      eq(table.pack(b:wait()), table.pack(nil, "broken"))
      b:reset()
      eq(b.n_waiting, 0)]]
  end)
end)

describe("a pool whose worker dies #later", function()
  it("fails that task only, and gives the signal", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local q = mp.Queue()
      local bad = pool:apply_async(function() q:put(mp.current_process().pid) mp.sleep(60) end)
      local list = {}
      for i = 1, 20 do list[i] = pool:apply_async(function() return i end) end
      kill(q:get())
      local good, err = pcall(bad.get, bad, 10)
      eq(good, false)
      eq(err.kind, "worker_died")
      eq(err.signal, 9)
      for i = 1, 20 do eq(list[i]:get(10), i) end
      eq(pool:apply(function() return "on" end), "on")]]
  end)

  it("gives the exit code of os.exit", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local good, err = pcall(pool.apply, pool, function() os.exit(7) end)
      eq(good, false)
      eq(err.kind, "worker_died") eq(err.exitcode, 7)
      eq(pool:apply(function() return "on" end), "on")]]
  end)

  it("runs the task again when retries allow it", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local n = mp.Value("i", 0)
      local r = pool:apply_async(function()
        if n:add(1) < 3 then kill(0) mp.sleep(60) end
        return "at last"
      end, {}, { retries = 2 })
      eq(r:get(15), "at last")
      eq(n.value, 3)]]
  end)

  it("goes on when an idle worker is killed, or all of them at once", function()
    ok[[
      local pool <close> = mp.Pool(2)
      for _ = 1, 5 do
        local pids = {}
        for _ = 1, 10 do pids[pool:apply(function() return mp.current_process().pid end)] = true end
        for pid in pairs(pids) do kill(pid) end
        for pid in pairs(pids) do wait_dead(pid) end
        eq(pool:map(function(x) return x end, { 1, 2, 3, 4 }), { 1, 2, 3, 4 })
      end]]
  end)

  it("does not hang in a map", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local good, err = pcall(pool.map, pool, function(x) if x == 5 then kill(0) mp.sleep(60) end return x end,
        { 1, 2, 3, 4, 5, 6, 7, 8 }, { chunksize = 1 })
      eq(good, false)
      eq(err.kind, "worker_died")
      pool:close() pool:join()]]
  end)

  it("releases the locks and permits that it held", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local l, s = mp.Lock(), mp.Semaphore(1)
      pcall(pool.apply, pool, function() l:acquire() s:acquire() kill(0) mp.sleep(60) end)
      eq(table.pack(l:acquire(10)), table.pack(true, "owner_died"))
      eq(table.pack(s:acquire(10)), table.pack(true))]]
  end)
end)

describe("a program that is killed as a whole", function()
  it("leaves nothing in /dev/shm", function()
    local before = support.shell("ls -A /dev/shm")
    support.run[[
      local a, q = mp.Array("d", 100000), mp.Queue()
      for i = 1, 3 do mp.Process{ daemon = true, target = function() q:put(i) mp.sleep(60) end }:start() end
      for _ = 1, 3 do q:get() end
      a[1] = 1
      kill(0)
      mp.sleep(60)]]
    assert.equal(before, support.shell("ls -A /dev/shm"))
  end)
end)
