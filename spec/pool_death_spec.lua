local support = require "spec.support"
local ok = support.ok

describe("a pool worker that dies", function()
  it("costs the item that ran: of its chunk, the finished keep their results, the others are run elsewhere", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local begun = mp.RawArray("i", 20)
      local function f(i)
        begun[i] = begun[i] + 1
        if i == 5 then kill(0) end
        return i * i
      end
      local list, got = {}, {}
      for i = 1, 20 do list[i] = i end
      local step, s = pool:imap(f, list, { chunksize = 10 })
      for i = 1, 20 do
        local good, index, v = pcall(step, s, i)
        if i == 5 then
          eq(good, false) eq(index.kind, "worker_died") eq(index.signal, 9)
        else
          eq(good, true) eq(index, i) eq(v, i * i)
        end
      end
      for i = 1, 20 do eq(begun[i], 1, "runs of item " .. i) end]]
  end)

  it("with retries, costs nothing, and the finished items of its chunk do not run again", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local begun = mp.RawArray("i", 40)
      local list, want = {}, {}
      for i = 1, 40 do list[i], want[i] = i, i + 1 end
      local got = pool:map(function(i)
        begun[i] = begun[i] + 1
        if i % 10 == 7 and begun[i] < 3 then kill(0) end
        return i + 1
      end, list, { chunksize = 20, retries = 2 })
      eq(got, want)
      for i = 1, 40 do eq(begun[i], i % 10 == 7 and 3 or 1, "runs of item " .. i) end
      local good, err = pcall(pool.map, pool, function(i) if i == 3 then kill(0) end return i end, list,
        { chunksize = 20, retries = 2 })
      eq(good, false) eq(err.kind, "worker_died")]]
  end)

  it("loses no result of its chunk, however large, and no shared object in one", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local step, s = pool:imap(function(i)
        if i == 6 then kill(0) end
        if i % 2 == 0 then return ("x"):rep(i * 5000) end
        local v = mp.Value("i", i)
        return { v, ("y"):rep(i * 500) }
      end, { 1, 2, 3, 4, 5, 6, 7 }, { chunksize = 7 })
      for i = 1, 7 do
        local good, _, v = pcall(step, s, i)
        eq(good, i ~= 6)
        if good and i % 2 == 0 then eq(#v, i * 5000) elseif good then eq(v[1].value, i) eq(#v[2], i * 500) end
      end]]
  end)

  it("is reported with its signal or its exit code, and replaced", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local function fails(f, field, value)
        local good, err = pcall(pool.apply, pool, f)
        eq(good, false) eq(err.kind, "worker_died") eq(err[field], value)
        assert(err.message:find(tostring(value), 1, true), err.message)
        eq(pool:apply(function() return "on" end), "on")
      end
      fails(function() os.exit(3) end, "exitcode", 3)
      fails(function() os.exit(0) end, "exitcode", 0)
      fails(function() os.exit(true, true) end, "exitcode", 0)
      fails(function() kill(0) end, "signal", 9)
      fails(function() kill(0, "TRAP") while true do end end, "signal", 5)
      fails(function() kill(0, "ABRT") while true do end end, "signal", 6)
      fails(function() coroutine.wrap(function() os.exit(4) end)() end, "exitcode", 4)
      for _ = 1, 20 do
        if #pool:stats().workers == 2 then break end
        mp.sleep(0.1)
      end
      eq(#pool:stats().workers, 2)]]
  end)

  it("while it is idle fails nothing, nor do all of them at once", function()
    ok[[
      local pool <close> = mp.Pool(3)
      local list, want = {}, {}
      for i = 1, 100 do list[i], want[i] = i, i end
      local function f(i) return i end
      local killed = {} -- one of the last round may not be replaced yet
      for _ = 1, 3 do
        eq(pool:map(f, list), want)
        for _, w in ipairs(pool:stats().workers) do
          if not killed[w.pid] then kill(w.pid) end
          killed[w.pid] = true
        end
        eq(pool:apply(f, { 1 }), 1)
      end]]
  end)

  it("together with all others costs only the running items", function()
    ok[[
      local pool <close> = mp.Pool(3)
      local started, go, results = mp.Queue(), mp.Event(), {}
      for i = 1, 30 do
        results[i] = pool:apply_async(function()
          if go:is_set() then return i end
          started:put(mp.current_process().pid)
          mp.sleep(60)
        end)
      end
      local pids = { started:get(), started:get(), started:get() }
      go:set()
      for _, pid in ipairs(pids) do kill(pid) end
      local died = 0
      for i = 1, 30 do
        local good, v = pcall(results[i].get, results[i], 15)
        if good then eq(v, i) else died = died + 1 eq(v.kind, "worker_died") end
      end
      eq(died, 3)]]
  end)

  it("before it is ready, again and again, makes the calls fail, after few starts", function()
    ok[[
      for _, how in ipairs{ function() os.exit(0) end, function() os.exit(7) end, function() kill(0) end } do
        local n = mp.Value("i", 0)
        local pool <close> = mp.Pool{ processes = 2, initializer = function() n:add(1) how() end }
        local r = pool:apply_async(function() return 1 end)
        local good, err = pcall(r.get, r, 15)
        eq(good, false) eq(err.kind, "worker_died")
        assert(n.value <= 10, n.value .. " starts")
        good, err = pcall(pool.map, pool, function() end, { 1 })
        eq(good, false) eq(err.kind, "worker_died")
      end]]
  end)

  it("before it is ready makes calls fail only until one gets ready", function()
    ok([[
      for _, how in ipairs{ function() os.exit(7) end, function() error("not yet") end, function() kill(0) end } do
        local n = mp.Value("i", 0)
        local pool <close> = mp.Pool{ processes = 2, initializer = function() if n:add(1) <= 6 then how() end end }
        local good, err = pcall(pool.apply, pool, function() end)
        eq(good, false)
        assert(err.kind == "worker_died" or err.message:find("not yet", 1, true), tostring(err))
        until_true(function() return (pcall(pool.apply, pool, function() end)) end)
        eq(pool:map(function(x) return x end, { 1, 2, 3 }), { 1, 2, 3 })
        eq(pool:stats().outstanding, 0)
      end]], { timeout = 40 })
  end)

  it("before it is ready, every time, lets the pool close and end", function()
    ok[[
      for _, closes_first in ipairs{ true, false } do
        local pool = mp.Pool{ processes = 2, initializer = function() error("no start") end }
        local r = pool:apply_async(function() return 1 end)
        if closes_first then pool:close() end
        raises("no start", r.get, r, 15)
        pool:close() pool:join()
      end]]
  end)

  it("in its first task, time after time, costs those tasks and nothing else", function()
    ok([[
      local function swallow() while true do pcall(function() while true do end end) end end
      for _, how in ipairs{ "exit", "signal", "timeout" } do
        local pool <close> = mp.Pool(1)
        for code = 1, how == "timeout" and 6 or 12 do
          local r = pool:apply_async(function()
            if how == "exit" then os.exit(code) elseif how == "signal" then kill(0) else swallow() end
          end, nil, { timeout = how == "timeout" and 0.01 or nil })
          local good, err = pcall(r.get, r, 15)
          eq(good, false) eq(err.kind, how == "timeout" and "timeout" or "worker_died")
          if how == "exit" then eq(err.exitcode, code) end
        end
        eq(pool:apply(function() return "on" end), "on")
      end]], { timeout = 40 })
  end)

  it("in the same item again and again is retried as often as allowed", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local tries = mp.RawArray("i", 6)
      local r = pool:map_async(function(i)
        tries[i] = tries[i] + 1
        if i == 3 then os.exit(1) end
        return i
      end, { 1, 2, 3, 4, 5, 6 }, { retries = 8, chunksize = 3 })
      local good, err = pcall(r.get, r, 15)
      eq(good, false) eq(err.kind, "worker_died")
      eq(tries:totable(), { 1, 1, 9, 1, 1, 1 })
      eq(pool:map(function(x) return x end, { 1, 2 }), { 1, 2 })]]
  end)

  it("while it reads an item fails that item after a few tries", function()
    ok[[
      local name = os.tmpname()
      local f = io.open(name .. ".lua", "w")
      f:write('if mp_started then os.exit(6) end return { f = function() end }')
      f:close()
      package.path = name:match("(.*/)") .. "?.lua;" .. package.path
      local M = require(name:match("[^/]*$"))
      mp.set_start_method("spawn")
      local pool <close> = mp.Pool{ processes = 2, initializer = function() mp_started = true end }
      local r = pool:map_async(function(x) return x end, { 1, M, 3 }, { chunksize = 1 })
      local good, err = pcall(r.get, r, 15)
      os.remove(name) os.remove(name .. ".lua")
      eq(good, false) eq(err.kind, "worker_died") eq(err.exitcode, 6)
      eq(pool:apply(function() return "on" end), "on")]]
  end)

  it("before it is ready does no harm while others work", function()
    ok([[
      local n = mp.Value("i", 0)
      local pool <close> = mp.Pool{ processes = 2, initializer = function() if n:add(1) > 1 then os.exit(5) end end }
      for i = 1, 20 do
        eq(pool:apply(function() mp.sleep(0.02) return i end), i)
      end
      assert(n.value < 30, n.value .. " starts")]], { timeout = 30 })
  end)

  it("in a storm of such deaths costs no more than the items that ran", function()
    local r = support.run(nil, { file = "spec/chaos/pool.lua", args = { "2000", "60" }, timeout = 60 })
    assert.equal(0, r.status, r.stdout .. r.stderr)
  end)

  it("is noticed at once, also when it was stopped", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local started = mp.Queue()
      local r = pool:apply_async(function() started:put(mp.current_process().pid) mp.sleep(60) end)
      local pid = started:get()
      kill(pid, "STOP")
      local from = now()
      kill(pid)
      local good, err = pcall(r.get, r, 60)
      eq(good, false) eq(err.kind, "worker_died")
      assert(now() - from < 20)]]
  end)

  it("takes no task of others with it when a pool shrinks", function()
    ok[[
      local pool <close> = mp.Pool(4)
      local begun, results = mp.RawArray("i", 400), {}
      for i = 1, 400 do
        results[i] = pool:apply_async(function() begun[i] = begun[i] + 1 mp.sleep(0.001) return i end)
        if i % 50 == 0 then pool:resize(i % 100 == 0 and 4 or 1) end
      end
      for i = 1, 400 do eq(results[i]:get(20), i) end
      for i = 1, 400 do eq(begun[i], 1) end
      pool:resize(2)
      until_true(function() return #pool:stats().workers == 2 end)]]
  end)
end)
