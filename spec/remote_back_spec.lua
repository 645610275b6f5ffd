-- A server that is killed and comes back as it was before: with what its file had at some moment. What processes gave
-- up after that moment must not stay theirs, as they live on and it would stay for ever.
local redis = require "spec.support.redis"

local HEAD = [[
local m, other = open(), open{ timeout = 29 } -- another manager: another client of the server
local server

-- The server's file as it is now.
local function remember() os.execute("cd " .. DIR .. " && rm -rf kept && mkdir kept && cp -r appendonly* kept") end

-- The server is killed, and comes back as it was then.
local function go_back()
  os.execute("kill -9 " .. PID .. "; cd " .. DIR .. " && rm -rf appendonly* && cp -r kept/* .")
  server = start_again("--appendonly", "yes", "--appendfsync", "always")
  PID = server.pid
end
]]

local function goes_back(code)
  redis.with_server("--appendonly yes --appendfsync always", HEAD .. code .. "\nserver:kill()", { timeout = 40 })
end

describe("a server that comes back as it was", function()
  it("keeps no lock for a living process that has released it", function()
    goes_back [[
      local l, theirs = m:Lock "l", other:Lock "l"
      l:acquire()
      remember()
      l:release()
      go_back()
      -- The process of m asks for nothing: its beats find the other server.
      eq({ theirs:acquire(10), l:locked() }, { true, true })
    ]]
  end)

  it("keeps a lock for a process that has it and is not known to have it", function()
    goes_back [[
      local l, theirs = m:Lock "l", other:Lock "l"
      theirs:acquire()
      remember()
      theirs:release()
      l:acquire()
      local fence = l.fence
      go_back()
      eq({ m:dict "d".x, theirs:acquire(0.1) }, { nil, nil, "timeout" })
      m:dict "d":set("x", 1, { guard = l })
      eq({ l.fence, m:dict "d".x }, { fence, 1 })
      l:release()
      eq({ theirs:acquire(5), theirs.fence > fence }, { true, true })
    ]]
  end)

  it("tells a holder whose lock went to another process first, and refuses its writes", function()
    goes_back(redis.LINE .. [[
      local late = mp.Manager(LINE, { lease = 2 })
      local l, d, theirs = late:Lock "l", late:dict "d", other:Lock "l"
      d.x = 0
      remember()
      l:acquire()
      line "refuse"
      go_back()
      theirs:acquire()
      line "calm"
      raises("lock", d.set, d, "x", 1, { guard = l })
      raises("the lock is lost", l.release, l)
      eq(d.x, 0)
      theirs:release()
      eq(l:acquire(10), true)
      proxy:kill()
    ]])
  end)

  it("gives nothing to tasks that wait no more", function()
    goes_back [[
      local l, q, s = m:Lock "l", m:Queue "q", m:Semaphore("s", 1)
      other:Lock "l":acquire()
      other:Semaphore "s":acquire()
      local tasks = {}
      for i, f in ipairs{ function() l:acquire() end, function() q:get() end, function() s:acquire() end } do
        tasks[i] = co.spawn(f)
      end
      co.sleep(0.2)
      remember()
      for _, t in ipairs(tasks) do t:kill() end
      for _, t in ipairs(tasks) do t:join() end
      go_back()
      eq({ m:dict "d".x }, { nil })
      other:Lock "l":release()
      other:Semaphore "s":release()
      other:Queue "q":put "item"
      eq({ other:Queue "q":get(5), other:Semaphore "s":acquire(5), other:Lock "l":acquire(5) }, { "item", true, true })
    ]]
  end)

  it("frees permits that were given back, and counts no party that has gone", function()
    goes_back [[
      local s, theirs = m:Semaphore("s", 2), other:Semaphore("s", 2)
      s:acquire()
      s:acquire()
      local b = m:Barrier("b", 3)
      local t = co.spawn(function() return b:wait(60) end)
      co.sleep(0.2)
      remember()
      s:release()
      t:kill()
      t:join()
      b:reset()
      go_back()
      eq({ theirs:acquire(10), theirs:acquire(0) }, { true, nil, "timeout" })
      eq({ b.n_waiting, b.broken }, { 0, false })
    ]]
  end)

  it("takes items back that were given back, and gives none twice that was received", function()
    goes_back [[
      local q = m:Queue "q"
      q:put "first"
      q:put "second"
      eq(q:get(), "first")
      remember()
      eq(q:get(), "second")
      go_back()
      -- The server has not heard that it was taken.
      eq({ q:get(5), q:qsize(), q:get(0) }, { "second", 0, nil, "empty" })
    ]]
  end)

  it("lets the next one through a limiter whose first in line has gone", function()
    goes_back [[
      local r, theirs = m:RateLimiter("r", { rate = 1, burst = 1 }), other:RateLimiter("r", { rate = 1, burst = 1 })
      r:acquire()
      local t = co.spawn(function() r:acquire() end)
      co.sleep(0.2)
      remember()
      t:kill()
      t:join()
      go_back()
      eq(theirs:acquire(1, 10), true)
    ]]
  end)

  it("runs tasks again that it has forgotten, and gives each result once", function()
    goes_back [[
      local w = mp.subprocess.Popen{ COMMAND, "worker", "--lease", "2", "-j", "2", "--allow", "math.*", URL,
        stderr = "null" }
      local pool, times = m:Pool{ retries = 10 }, {}
      eq(pool:apply("math.abs", { -1 }), 1)
      remember()
      local results = {}
      for i = 1, 200 do
        results[i] = pool:apply_async("math.abs", { -i }, { callback = function(n) times[n] = (times[n] or 0) + 1 end })
      end
      eq(results[20]:get(10), 20)
      go_back()
      for i, r in ipairs(results) do eq(r:get(20), i) end
      pool:close()
      eq(pool:join(10), true)
      co.sleep(0)
      for i = 1, 200 do eq(times[i], 1) end
      w:kill "TERM"
      eq(w:wait(10), 0)
    ]]
  end)

  it("may be empty: what is in use goes on", function()
    redis.with_server("", HEAD .. [[
      local l, q = m:Lock "l", m:Queue "q"
      l:acquire()
      local t = co.spawn(function() return q:get() end)
      co.sleep(0.1)
      os.execute("kill -9 " .. PID)
      server = start_again()
      eq({ m:dict "d".x, other:Lock "l":acquire(0) }, { nil, nil, "timeout" })
      other:Queue "q":put "item"
      eq(t:get(10), "item")
      l:release()
      server:kill()
    ]], { timeout = 40 })
  end)
end)
