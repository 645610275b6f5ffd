-- Processes that are stopped for longer than their leases, and go on: what they had was given to others meanwhile.
local redis = require "spec.support.redis"

local HEAD = [[
package.path = DIR .. "/?.lua;" .. package.path
local LONG = 6.5 -- seconds: more than three leases
local m = open()
local function worker()
  local before = m:Pool():stats().workers
  local p = mp.subprocess.Popen{ "env", "LUA_PATH=" .. DIR .. "/?.lua;;", COMMAND, "worker", "--lease", "2", "-j3", URL,
    stderr = "null" }
  until_true(function() co.sleep(0.01) return m:Pool():stats().workers > before end)
  return p
end
local function lines(path)
  local n = 0
  for _ in io.lines(path) do n = n + 1 end
  return n
end
local function exists(path)
  local f = io.open(path)
  if f then f:close() end
  return f ~= nil
end
-- A process that takes something, says so, is stopped, and says afterwards what f returns.
local function stopped(take, f)
  local there, go, said = mp.Event(), mp.Event(), mp.Queue()
  local p = mp.Process{ daemon = true, target = function()
    local m = open()
    local got = table.pack(take(m))
    there:set()
    go:wait()
    said:put(table.pack(pcall(f, m, table.unpack(got, 1, got.n))))
  end }
  p:start()
  there:wait()
  kill(p.pid, "STOP")
  return { resume = function()
    kill(p.pid, "CONT")
    go:set()
    local result = said:get(10)
    p:join(10)
    return table.unpack(result, 1, result.n)
  end }
end
]]

local function run(code)
  redis.with_server("", HEAD .. code, { timeout = 60 })
end

describe("a worker that is stopped for more than three leases", function()
  it("loses its tasks, and what it says of them afterwards is refused", function()
    run [[
      local f = io.open(DIR .. "/jobs.lua", "w")
      f:write [=[
        local jobs = {}
        function jobs.slow(path, n)
          local f = io.open(path, "a")
          f:write(n, "\n")
          f:close()
          require "mpengine".sleep(1)
          return n
        end
        return jobs
      ]=]
      f:close()
      local path, times, errors = DIR .. "/ran", {}, {}
      local first = worker()
      local function submit(n, retries)
        return m:Pool():apply_async("jobs.slow", { path, n }, { retries = retries,
          callback = function(v) times[v] = (times[v] or 0) + 1 end,
          error_callback = function(err) errors[#errors + 1] = err.kind end })
      end
      local again, once = submit(1, 3), submit(2, 0)
      until_true(function() co.sleep(0.01) return exists(path) and lines(path) == 2 end)
      kill(first.pid, "STOP")
      local since = mp.now()
      local second = worker()
      eq(again:get(20), 1)
      raises("not heard of", once.get, once, 20)
      -- Nothing is given to it when it goes on, until it has asked: else that would not be found if it died then.
      until_true(function() return cli("HLEN", "mp:{default}:workers:default"):find "^1" end)
      eq(cli("ZCARD", "mp:{default}:idle:default"), "1\n")
      co.sleep(since + LONG - mp.now())
      kill(first.pid, "CONT")
      -- It works again, for what comes now.
      until_true(function() co.sleep(0.01) return m:Pool():stats().workers == 2 end)
      second:kill "TERM"
      eq(second:wait(20), 0)
      eq(submit(3, 0):get(20), 3)
      first:kill "TERM"
      eq(first:wait(20), 0)
      eq({ times, errors, lines(path) }, { { 1, [3] = 1 }, { "worker_died" }, 4 })
      local counts = cli("HGETALL", "mp:{default}:counts"):gsub("%s+", " ")
      local wanted = { done = 2, crashed = 2, submitted = 3 }
      for name, n in pairs(wanted) do matches(counts, "default " .. name .. " " .. n) end
      eq(cli("KEYS", "mp:{default}:runs:*"):find "%S", nil)
    ]]
  end)
end)

describe("a process that is stopped for more than three leases", function()
  it("has lost its lock: it writes nothing with its guard, and its release says so", function()
    run [[
      local owner = stopped(function(m)
        local l = m:Lock "l"
        l:acquire()
        return l, l.fence
      end, function(m, l)
        local ok, why = pcall(function() m:dict "d":set("x", "late", { guard = l }) end)
        l:release()
        return ok, why
      end)
      local l, d = m:Lock "l", m:dict "d"
      local since = mp.now()
      eq({ l:acquire(20) }, { true, "owner_died" })
      d:set("x", "mine", { guard = l })
      co.sleep(since + LONG - mp.now())
      local ok, why = owner.resume()
      eq({ ok, d.x, l:locked() }, { false, "mine", true })
      matches(why, "the lock is lost")
      l:release()
    ]]
  end)

  it("has lost its permit and its place in a barrier, and its release adds no permit", function()
    run [[
      local owner = stopped(function(m)
        local s = m:Semaphore("s", 2)
        s:acquire()
        local b = m:Barrier("b", 2)
        local t = co.spawn(function() return b:wait(60) end)
        until_true(function() co.sleep(0.01) return b.n_waiting == 1 end)
        return s, t
      end, function(m, s, t)
        s:release()
        return t:get(10)
      end)
      local s, b = m:Semaphore("s", 2), m:Barrier("b", 2)
      eq({ s:acquire(), s:acquire(20), s:get_value() }, { true, true, 0 })
      until_true(function() co.sleep(0.01) return b.broken end)
      co.sleep(LONG - 3)
      eq({ owner.resume() }, { true, nil, "broken" })
      eq(s:get_value(), 0)
      s:release()
      s:release()
      eq(s:get_value(), 2)
    ]]
  end)

  it("gets no item that was handed to it meanwhile, and keeps none from others", function()
    run [[
      local q = m:Queue "q"
      local getter = stopped(function(m)
        local q = m:Queue "q"
        local t = co.spawn(function() return q:get(60) end)
        until_true(function() co.sleep(0.01) return cli("LLEN", "mp:{default}:queueg:q"):find "1" end)
        return t
      end, function(m, t) return t:get(20) end)
      q:put "first" -- is handed to the process that is stopped
      eq({ q:qsize(), q:get(20) }, { 0, "first" })
      co.sleep(LONG - 3)
      co.spawn_later(0.2, q.put, q, "second")
      eq({ getter.resume() }, { true, "second" })
      eq(q:get(0), nil)
    ]]
  end)

  it("puts its item once, though it was out of the line for room", function()
    run [[
      local q = m:JoinableQueue("q", 1)
      q:put "first"
      local putter = stopped(function(m)
        local q = m:JoinableQueue("q", 1)
        local t = co.spawn(function() return q:put("late", 60) end)
        until_true(function() co.sleep(0.01) return cli("LLEN", "mp:{default}:queuew:q"):find "1" end)
        return t
      end, function(m, t) return t:get(20) end)
      co.sleep(LONG)
      -- There is room, and the one that waits for it is not heard of.
      eq(q:get(), "first")
      q:task_done()
      eq({ q:get(0) }, { nil, "empty" })
      eq(q:join(5), true)
      eq({ putter.resume() }, { true, true })
      eq({ q:get(10), q:get(0) }, { "late", nil, "empty" })
      q:task_done()
      eq(q:join(5), true)
    ]]
  end)

  it("is waited for in vain by no join when it dies", function()
    run [[
      local q = m:JoinableQueue("q", 1)
      q:put "first"
      local p = mp.Process{ daemon = true, target = function() open():JoinableQueue("q", 1):put "never" end }
      p:start()
      until_true(function() co.sleep(0.01) return cli("LLEN", "mp:{default}:queuew:q"):find "1" end)
      p:kill()
      p:join()
      local t = co.spawn(function() return q:join(20) end)
      co.sleep(4)
      eq(q:get(), "first")
      q:task_done()
      eq(t:get(20), true)
    ]]
  end)
end)

describe("an outage", function()
  local function with_far(code)
    redis.with_server("", redis.LINE .. [[
      local far = mp.Manager(LINE, { lease = 2 })
    ]] .. code .. "\nproxy:kill()", { timeout = 40 })
  end

  it("that is shorter than a lease voids no lock of a process that beats after another one", function()
    with_far [[
      local near = open()
      near:Lock "other":acquire() -- it beats from now on
      local l, theirs = far:Lock "l", near:Lock "l"
      l:acquire()
      line "hold"
      co.sleep(0.7) -- a beat of near is newer than that of far
      kill(PID, "STOP")
      co.sleep(1.4) -- far was not heard of for a lease, near for less
      kill(PID, "CONT")
      eq(theirs:acquire(0), nil)
      line "calm"
      l:release()
      eq(theirs:acquire(5), true)
    ]]
  end)

  it("voids nothing, whichever process asks first, also one with a longer lease", function()
    for _, ask in ipairs{
      "eq(near:Lock 'l':locked(), true)",
      "eq(near:Lock 'l':acquire(0), nil)",
      "eq(near:Semaphore('s', 1):get_value(), 0)",
      "eq({ near:Queue 'q':get(0) }, { nil, 'empty' })",
      "eq(near:Barrier('b', 2).broken, false)",
    } do
      with_far([[
        local near = open{ lease = 15 }
        local l, s, q, b = far:Lock "l", far:Semaphore("s", 1), far:Queue "q", far:Barrier("b", 2)
        near:Queue "q":qsize()
        l:acquire()
        s:acquire()
        local got = co.spawn(function() return q:get() end)
        local met = co.spawn(function() return b:wait() end)
        until_true(function() co.sleep(0.01) return b.n_waiting == 1 end)
        until_true(function() co.sleep(0.01) return cli("LLEN", "mp:{default}:queueg:q"):find "1" end)
        line "hold"
        near:Queue "q":put "item" -- is handed to far, which does not hear of it
        kill(PID, "STOP")
        co.sleep(2.6)
        kill(PID, "CONT")
      ]] .. ask .. [[

        line "calm"
        eq(got:get(5), "item")
        l:release()
        s:release()
        eq({ b.n_waiting, near:Barrier("b", 2):wait(5) ~= nil, met:get(5) ~= nil }, { 1, true, true })
      ]])
    end
  end)
end)
