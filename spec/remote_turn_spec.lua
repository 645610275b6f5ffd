-- Managers of a URL: tasks that wait for what comes over one connection, and the one of them that reads.
local support = require "spec.support"
local redis = require "spec.support.redis"

-- With this lease no wait asks again by itself within the limit of a spec.
local ok = redis.scenarios([[
local co = mp.co
local m = mp.Manager(URL, { namespace = NAMESPACE, lease = 60 })
]], setup, teardown)

describe("a task that waits for what comes from the server", function()
  it("gets its reply when those that would read for it are cancelled in one turn", function()
    ok [[
      local d = m:dict("d", { x = 1 })
      for turns = 1, 3 do
        for round = 1, 20 do
          local asking = {}
          for i = 1, 5 do asking[i] = co.spawn(function() return d.x end) end
          for _ = 1, turns do co.sleep(0) end
          for i = 1, 4 do asking[i]:kill() end
          eq(asking[5]:get(), 1)
        end
      end
    ]]
  end)

  it("gets its lock when those that would read for it are cancelled in one turn", function()
    ok [[
      local l = m:Lock "l"
      for round = 1, 5 do
        l:acquire()
        local waiting = {}
        for i = 1, 5 do
          waiting[i] = co.spawn(function() return l:acquire() end)
          co.sleep(0.02)
        end
        for i = 1, 4 do waiting[i]:kill() end
        co.joinall(waiting, 0)
        l:release()
        eq(waiting[5]:get(), true)
        l:release()
      end
    ]]
  end)

  it("gets its item when the time of all others is over", function()
    ok [[
      local q = m:Queue "q"
      local last
      for i = 1, 5 do last = co.spawn(function() return q:get(i < 5 and 0.1 or nil) end) end
      co.sleep(0.3)
      q:put "item"
      eq(last:get(), "item")
    ]]
  end)

  it("gets its tokens when the time of all others is over", function()
    support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
    ok [[
      local limiter = m:RateLimiter("r", { rate = 10, burst = 1 })
      limiter:acquire()
      local waiting = {}
      for i = 1, 5 do waiting[i] = co.spawn(function() return limiter:acquire(1, i < 5 and 0.05 or nil) end) end
      eq(waiting[5]:get(), true)
    ]]
  end)
end)

describe("a task that opens the connection", function()
  it("leaves no descriptor when it is killed", function()
    ok [[
      collectgarbage "stop"
      -- Each timeout makes a client of its own, which has one connection at last.
      local function ask(i) return mp.Manager(URL, { namespace = NAMESPACE, timeout = 20 + i }):dict "d".x end
      ask(0)
      local before, one = descriptors(), nil
      ask(41)
      one = descriptors() - before
      for i = 1, 40 do
        local t = co.spawn(ask, i)
        for _ = 1, i % 20 do co.sleep(i % 2 == 0 and 0 or 1e-5) end
        t:kill()
        t:join()
        ask(i)
      end
      eq(descriptors(), before + 41 * one)
    ]]
  end)
end)

describe("a task that asks again", function()
  -- The server is made to say once more, and late, what it had given to a process that was stopped for longer than
  -- its lease, and what others have since. With the short lease a task asks again soon.
  local function stale(code)
    return ok([[
      local short = mp.Manager(URL, { namespace = "stale", lease = 2 })
      local long = mp.Manager(URL, { namespace = "stale", lease = 60 })
      local function cli(...)
        return mp.subprocess.run{ "redis-cli", "-s", DIR .. "/socket", "--raw", ... }.stdout
      end
      local function asked() return tonumber(cli("INFO", "commandstats"):match "cmdstat_evalsha:calls=(%d+)") end
      -- The line has one task: its entry, once it has asked again.
      local function entry_of(line)
        until_true(function() return cli("LLEN", line) == "1\n" end)
        local before = asked()
        until_true(function() co.sleep(0.01) return asked() > before end)
        return cli("LINDEX", line, "0"):match "^(%S+) (%S+)"
      end
      local function tell(line, ...)
        local client, token = entry_of(line)
        cli("XADD", "mp:{stale}:mail:" .. client, "*", "w", token, ...)
      end
    ]] .. code)
  end

  it("has a lock when the lock is its own, and leaves nothing in the line", function()
    stale [[
      local theirs, mine = long:Lock "l", short:Lock "l"
      theirs:acquire()
      local t = co.spawn(function() return mine:acquire() end)
      tell("mp:{stale}:lockq:l", "fence", "1", "died", "0")
      eq({ t:join(0.3) }, { nil, "timeout" })
      theirs:release()
      eq(t:get(), true)
      eq(mine.fence > 1, true)
      mine:release()
      eq(theirs:locked(), false)
    ]]
  end)

  it("has a permit when there is one, and leaves nothing in the line", function()
    stale [[
      local theirs, mine = long:Semaphore("s", 1), short:Semaphore("s", 1)
      theirs:acquire()
      local t = co.spawn(function() return mine:acquire() end)
      tell("mp:{stale}:semq:Semaphores", "ok", "1")
      eq({ t:join(0.3) }, { nil, "timeout" })
      theirs:release()
      eq(t:get(), true)
      mine:release()
      eq(theirs:get_value(), 1)
    ]]
  end)

  it("has an item once, and leaves nothing in the line", function()
    stale [[
      local q = short:Queue "q"
      local t = co.spawn(function() return q:get() end)
      tell("mp:{stale}:queueg:q", "item", "one that another process has")
      eq({ t:join(0.3) }, { nil, "timeout" })
      q:put "new"
      q:put "newer"
      eq({ t:get(), q:get() }, { "new", "newer" })
    ]]
  end)

  it("gives back what it has when it is killed", function()
    stale [[
      local theirs, mine = long:Lock "k", short:Lock "k"
      theirs:acquire()
      local t = co.spawn(function() return mine:acquire() end)
      tell("mp:{stale}:lockq:k", "fence", "1", "died", "0")
      t:kill()
      t:join()
      eq(cli("LLEN", "mp:{stale}:lockq:k"), "0\n")
      theirs:release()
      eq(theirs:locked(), false)
    ]]
  end)
end)
