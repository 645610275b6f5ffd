local support = require "spec.support"
local ok = support.ok

describe("a task of a pool that is stopped", function()
  it("is one item of its chunk, whose timeout begins with the item", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local begun, list = mp.RawArray("i", 12), {}
      for i = 1, 12 do list[i] = i end
      local step, s = pool:imap(function(i)
        begun[i] = begun[i] + 1
        if i == 4 then while true do end end
        mp.sleep(0.05)
        return i
      end, list, { chunksize = 6, timeout = 0.2 })
      for i = 1, 12 do
        local good, index, v = pcall(step, s, i)
        if i == 4 then eq(index.kind, "timeout") else eq(good, true) eq(v, i) end
      end
      for i = 1, 12 do eq(begun[i], 1) end]]
  end)

  it("runs again if retries allow it", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local n = mp.Value("i", 0)
      local list, want = {}, {}
      for i = 1, 30 do list[i], want[i] = i, i end
      eq(pool:map(function(i)
        if i == 13 and n:add(1) < 3 then mp.sleep(60) end
        return i
      end, list, { timeout = 0.15, retries = 2 }), want)
      eq(n.value, 3)]]
  end)

  it("that catches it cleans up: code after the pcall runs, a condition has its lock, a hook is as it was", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local lock, cond, told = mp.Lock(), mp.Condition(), mp.Queue()
      local function stopped(f)
        raises("longer than", function() pool:apply_async(f, {}, { timeout = 0.1 }):get(10) end)
        return told:get(10)
      end
      eq(stopped(function()
        lock:acquire()
        local good = pcall(mp.sleep, 60)
        lock:release()
        told:put(good)
      end), false)
      eq(lock:locked(), false)
      eq(stopped(function()
        cond:acquire()
        pcall(cond.wait, cond)
        local held = cond:locked()
        cond:release()
        told:put(held)
      end), true)
      eq(stopped(function()
        local hook = function() end
        debug.sethook(hook, "l")
        pcall(function() while true do end end)
        for _ = 1, 5 do end
        told:put(debug.gethook() == hook)
      end), true)]]
  end)

  for what, hook in pairs{ lines = [["l"]], ["lines and instructions"] = [["l", 1]], calls = [["c"]] } do
    it("is stopped at once while its own hook counts " .. what .. ", which then is as it was", function()
      ok(([[
        local pool <close> = mp.Pool(2)
        local ran, same, other = mp.Value("i", 0), mp.Value("i", 0), mp.Value("i", 0)
        local result = pool:map(function()
          local hook, f = function() end, function() end
          debug.sethook(hook, %s)
          pcall(function()
            ran:add(1)
            while true do f() end
          end)
          for _ = 1, 5 do end
          if debug.gethook() == hook then same:add(1) else other:add(1) end
          debug.sethook()
        end, mp.RawArray("i", 150), { timeout = 0.02, return_exceptions = true, chunksize = 1 })
        for _, r in ipairs(result) do eq(r.kind, "timeout") end
        pool:close() pool:join() -- what the last ones do after their pcall has been done
        assert(ran.value > 0 and same.value > 0) -- an item may be stopped before its pcall, or once more behind it
        eq(other.value, 0)]]):format(hook), { timeout = 60 })
    end)
  end

  it("is stopped in a loop, in a wait, in its coroutines, in a pcall that swallows it", function()
    ok([[
      local pool <close> = mp.Pool(2)
      for name, f in pairs{
        loop = function() while true do end end,
        wait = function() mp.sleep(60) end,
        queue = function() mp.Queue():get() end,
        coroutine = function() coroutine.wrap(function() while true do end end)() end,
        waiting_coroutine = function() coroutine.wrap(function() mp.sleep(60) end)() end,
        swallows = function() while true do pcall(function() while true do end end) end end,
        in_c = function() string.rep("a", 40):find(("a*"):rep(25) .. "b") end,
      } do
        local from = now()
        local r = pool:apply_async(f, {}, { timeout = 0.1 })
        local good, err = pcall(r.get, r, 10)
        eq(good, false, name) eq(err.kind, "timeout", name)
        assert(now() - from < 1, name)
        eq(pool:apply(function() return 1 end), 1)
      end]], { timeout = 40 })
  end)

  it("runs its close variables, and leaves the worker", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local closed = mp.Event()
      local pid = pool:apply(function() return mp.current_process().pid end)
      for _, f in ipairs{ function() while true do end end, function() mp.sleep(60) end } do
        closed:clear()
        local r = pool:apply_async(function()
          local x <close> = setmetatable({}, { __close = function() closed:set() end })
          f()
        end, {}, { timeout = 0.1 })
        eq(pcall(r.get, r), false)
        eq(closed:wait(5), true)
      end
      eq(pool:apply(function() return mp.current_process().pid end), pid)]]
  end)

  it("affects no other item: each has its result or its timeout", function()
    ok([[
      local pool <close> = mp.Pool(2)
      local begun, list = mp.RawArray("i", 600), {}
      for i = 1, 600 do list[i] = i end
      local late, step, s = 0, pool:imap_unordered(function(i)
        begun[i] = begun[i] + 1
        local till = os.clock() + (i % 7 == 0 and 0.004 or 0.0005) -- near the timeout
        while os.clock() < till do end
        return i
      end, list, { chunksize = 20, timeout = 0.004 })
      local seen = 0
      while true do
        local good, index, v = pcall(step, s)
        if good and index == nil then break end
        seen = seen + 1
        if good then eq({ v, begun[index] }, { index, 1 }) else eq(index.kind, "timeout") late = late + 1 end
      end
      eq(seen, 600)
      for i = 1, 600 do assert(begun[i] <= 1) end -- 0: its time was over before it began]], { timeout = 40 })
  end)
end)

describe("a task of a pool that is cancelled", function()
  it("never runs when it was queued, and leaves its place to others", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local go, started, ran = mp.Event(), mp.Event(), mp.Value("i", 0)
      local first = pool:apply_async(function() started:set() go:wait() return "first" end)
      started:wait()
      local queued = {}
      for i = 1, 20 do queued[i] = pool:apply_async(function() ran:add(1) end) end
      for i = 1, 20 do eq(queued[i]:cancel(), true) eq(queued[i]:cancel(), false) end
      local later = {}
      for i = 1, 20 do later[i] = pool:apply_async(function() return i end) end
      go:set()
      eq(first:get(10), "first")
      for i = 1, 20 do eq(later[i]:get(10), i) end
      eq(ran.value, 0)
      eq(pool:stats().outstanding, 0)]]
  end)

  it("may be a whole map, of which nothing more begins", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local begun, started = mp.Value("i", 0), mp.Event()
      local list = {}
      for i = 1, 1000 do list[i] = i end
      local calls = 0
      local r = pool:map_async(function() begun:add(1) started:set() mp.sleep(60) end, list, {
        chunksize = 10,
        callback = function() calls = calls + 1 end,
        error_callback = function(err) eq(err.kind, "cancelled") calls = calls + 1 end,
      })
      started:wait()
      eq(r:cancel(), true)
      local good, err = pcall(r.get, r)
      eq(err.kind, "cancelled")
      eq(pool:map(function(x) return x end, { 1, 2, 3 }), { 1, 2, 3 })
      until_true(function() return pool:stats().outstanding == 0 end)
      assert(begun.value <= 3)
      eq(calls, 1)]]
  end)

  it("lets the pool close and end", function()
    ok[[
      local pool = mp.Pool(2)
      local r = {}
      for i = 1, 10 do r[i] = pool:apply_async(function() mp.sleep(60) end) end
      for i = 1, 10 do r[i]:cancel() end
      pool:close()
      local from = now()
      pool:join()
      assert(now() - from < 5)]]
  end)
end)
