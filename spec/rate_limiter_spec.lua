-- Rate limiters: the rate over all processes, the order of waiters, and what their deaths leave.
local support = require "spec.support"

-- wait_in(r, n) starts a process that waits for n tokens of r, and returns when it stands in line.
-- A rate of NEVER gives no token while a spec runs.
local HEAD = [[
  local co, NEVER = mp.co, 1e-5
  local function waiters_of(r)
    local core = require "mpengine.core"
    for _, o in ipairs(mp.stats().objects) do if o.handle == core.handle(r) then return o.waiters end end
  end
  local function wait_in(r, n, after)
    local before = waiters_of(r)
    local p = P(function() r:acquire(n) if after then after() end end)
    until_true(function() return waiters_of(r) == before + 1 end)
    return p
  end
]]
local function ok(code, opts) return support.ok(HEAD .. code, opts) end

describe("a RateLimiter", function()
  it("is full at first, and gives rate tokens a second from then on", function()
    ok[[
      local r = mp.RateLimiter { rate = 200, burst = 5 }
      local began = mp.now()
      for _ = 1, 25 do eq(r:acquire(), true) end
      local took = mp.now() - began
      assert(took > 0.0999, took)
      r = mp.RateLimiter { rate = NEVER, burst = 5 }
      eq(r:try(5), true)
      eq(r:try(), false)
      assert(r:tokens() < 0.001)]]
  end)

  it("has a burst of the larger of 1 and its rate by default", function()
    ok[[
      eq(mp.RateLimiter { rate = 10 }:burst(), 10.0)
      eq(mp.RateLimiter { rate = 0.25 }:burst(), 1.0)
      local r = mp.RateLimiter { rate = 10, burst = 20 }
      eq(r:rate(), 10.0) eq(r:burst(), 20.0) eq(r:tokens(), 20.0)
      assert(tostring(r):find("^mp%.RateLimiter: 0x%x+ %(10 per second, burst 20%)$"), tostring(r))
      eq(mp.RateLimiter(3):rate(), 3.0)
      r = mp.RateLimiter { rate = 1, name = "requests" }
      assert(tostring(r):find("^mp%.RateLimiter: 0x%x+ 'requests' %(1 per second, burst 1%)$"), tostring(r))]]
  end)

  it("gives a fraction of a token, and many at once", function()
    ok[[
      local r = mp.RateLimiter { rate = NEVER, burst = 100 }
      eq(r:try(0.5), true) eq(r:try(99), true) eq(r:try(0.51), false) eq(r:try(0.49), true)]]
  end)

  it("says timeout when the tokens do not come in time, and then has taken none", function()
    ok[[
      local r = mp.RateLimiter { rate = NEVER, burst = 3 }
      r:acquire(2)
      local v, why = r:acquire(2, 0.01) eq(v, nil) eq(why, "timeout")
      v, why = r:acquire(2, 0) eq(v, nil) eq(why, "timeout")
      eq(r:try(0.99), true)]]
  end)

  it("holds its rate over all processes together", function()
    ok[[
      local r = mp.RateLimiter { rate = 400, burst = 1 }
      local began, list = mp.now(), {}
      for i = 1, 4 do list[i] = P(function() for _ = 1, 20 do r:acquire() end end) end
      all(list)
      local took = mp.now() - began
      assert(took > 79 / 400 - 0.001, took)]]
  end)

  it("serves tasks of several processes in the order in which they came", function()
    ok([[
      local r, log = mp.RateLimiter { rate = 100, burst = 100 }, mp.Queue()
      local turns, there, list = {}, mp.Semaphore(0), {}
      for p = 1, 3 do
        turns[p] = mp.Queue()
        list[p] = P(function()
          local tasks = {}
          for n in turns[p]:iter() do
            tasks[#tasks + 1] = co.spawn(function() r:acquire(5) log:put(n) end)
            co.sleep(0) -- it stands in line now
            there:release()
          end
          co.joinall(tasks)
        end)
      end
      r:acquire(100)
      local head = co.spawn(r.acquire, r, 100) -- until it is served, all come
      co.sleep(0)
      for n = 1, 9 do turns[n % 3 + 1]:put(n) there:acquire() end
      for p = 1, 3 do turns[p]:close() end
      assert(not head:ready())
      for n = 1, 9 do eq(log:get(), n) end
      all(list)]], { timeout = 30 })
  end)

  it("gives nothing past a waiter", function()
    ok[[
      local r = mp.RateLimiter { rate = NEVER, burst = 5 }
      r:acquire(3)
      local p = wait_in(r, 5)
      eq(r:try(1), false)
      eq(r:acquire(1, 0), nil)
      eq(r:acquire(1, 0.01), nil)
      p:kill() p:join()
      eq(r:try(1), true)]]
  end)

  it("goes to the next when a waiter before it times out, is killed as a task, or with its process", function()
    ok[[
      for _, leaves in ipairs { "timeout", "kill", "kill -9", "stop" } do
        local r = mp.RateLimiter { rate = NEVER, burst = 5 }
        r:acquire(3)
        local head, first
        if leaves == "kill" then
          head = co.spawn(r.acquire, r, 4)
          co.sleep(0)
        elseif leaves == "timeout" then
          head = co.spawn(r.acquire, r, 4, 0.05)
          co.sleep(0)
        else
          first = wait_in(r, 4)
        end
        local before = waiters_of(r)
        local p = P(function() assert(r:acquire(1)) end)
        until_true(function() return waiters_of(r) == before + 1 or not p:is_alive() end)
        if leaves == "kill" then head:kill() elseif first then first:kill() end
        eq(p:join(5), true, leaves) eq(p.exitcode, 0, leaves)
        assert(r:tokens() > 0.99 and r:tokens() < 1.01, leaves)
      end]]
  end)

  it("is shortened, also a wait that has a time of its own, when a waiter before it leaves", function()
    ok[[
      local r = mp.RateLimiter { rate = 20, burst = 1000 }
      r:acquire(1000)
      local head = co.spawn(r.acquire, r, 1000)
      co.sleep(0)
      local list = {}
      for i = 1, 3 do list[i] = wait_in(r, 1) end
      head:kill()
      for i = 1, 3 do eq(list[i]:join(5), true) eq(list[i].exitcode, 0) end]]
  end)

  it("does not wait for a waiter whose process is stopped or computes", function()
    ok[[
      local r = mp.RateLimiter { rate = 50, burst = 1000 }
      r:acquire(1000)
      local head = co.spawn(r.acquire, r, 1000) -- which goes once the next one is stopped
      co.sleep(0)
      local p = wait_in(r, 1)
      kill(p.pid, "STOP")
      head:kill()
      for _ = 1, 3 do eq(r:acquire(1, 5), true) end
      kill(p.pid, "CONT")
      p:join() eq(p.exitcode, 0)
      r = mp.RateLimiter { rate = 50, burst = 1 }
      r:acquire()
      local computes, go = mp.Event(), mp.Event()
      p = P(function()
        local t = co.spawn(r.acquire, r)
        co.sleep(0)
        computes:set()
        while not go:is_set() do end -- gives no other task a turn but for that of is_set
        t:join()
      end)
      computes:wait()
      for _ = 1, 3 do eq(r:acquire(1, 5), true) end
      go:set() p:join() eq(p.exitcode, 0)]]
  end)

  it("suspends only the task", function()
    ok[[
      local r = mp.RateLimiter { rate = 20, burst = 1 }
      r:acquire()
      local turns = 0
      local waits = co.spawn(r.acquire, r)
      while not waits:ready() do turns = turns + 1 co.sleep(0) end
      assert(turns > 10, turns)]]
  end)

  it("wakes one waiter for one token", function()
    ok([[
      local function switches(pid)
        local f = assert(io.open("/proc/" .. pid .. "/status"))
        local text = f:read "a" f:close()
        return tonumber(text:match "\nvoluntary_ctxt_switches:%s+(%d+)")
      end
      local r = mp.RateLimiter { rate = 100, burst = 100 }
      r:acquire(100)
      local head = co.spawn(r.acquire, r, 100)
      co.sleep(0)
      local stay, list, before = mp.Event(), {}, {}
      for i = 1, 12 do list[i] = wait_in(r, 2, function() stay:wait() end) end
      for i, p in ipairs(list) do asleep(p.pid) before[i] = switches(p.pid) end
      assert(not head:ready())
      r:acquire() -- it is behind them
      for i, p in ipairs(list) do
        local n = switches(p.pid) - before[i]
        assert(n <= 3, i .. ": " .. n)
      end
      stay:set() all(list)]], { timeout = 30 })
  end)

  it("uses no processor time while it waits", function()
    ok[[
      local r = mp.RateLimiter { rate = NEVER, burst = 1 }
      r:acquire()
      local began = os.clock()
      r:acquire(1, 0.3)
      assert(os.clock() - began < 0.03)]]
  end)

  it("never gives more than its rate, whatever is killed", function()
    ok([[
      local r, taken = mp.RateLimiter { rate = 500, burst = 5 }, mp.Value("q", 0)
      local began, running = mp.now(), {}
      local function take() while true do r:acquire() taken:add(1) end end
      for i = 1, 3 do running[i] = P(take) end
      for i = 1, 60 do
        local at = i % 3 + 1
        mp.sleep(math.random() * 0.01)
        running[at]:kill() running[at]:join()
        running[at] = P(take)
      end
      for i = 1, 3 do running[i]:kill() running[i]:join() end
      local most = 5 + (mp.now() - began) * 500
      assert(taken.value <= most + 1, taken.value .. " of " .. most)
      assert(taken.value > 20, taken.value)
      eq(r:acquire(5, 5), true) -- and it works]], { timeout = 30 })
  end)

  it("is sent as a value, and is made by a manager", function()
    ok[[
      local m <close> = mp.Manager()
      local r = m:RateLimiter { rate = NEVER, burst = 2 }
      local d = mp.Dict { limit = r }
      for _, method in ipairs { "fork", "spawn", "forkserver" } do
        local p = mp.get_context(method).Process(function(inner) assert(inner:try(0.5)) end, d.limit)
        p:start() p:join() eq(p.exitcode, 0)
      end
      assert(r == d.limit)
      assert(r:tokens() < 0.501)]]
  end)

  it("shows its tokens and its waiters in the statistics", function()
    ok[[
      local r = mp.RateLimiter { rate = NEVER, burst = 7 }
      r:acquire(3)
      for _, o in ipairs(mp.stats().objects) do
        if o.kind == "RateLimiter" then eq(o.depth, 4) eq(o.waiters, 0) end
      end
      local text = mp.metrics()
      assert(text:find("mpengine_limiter_tokens{place=.-} 4\n"), text)
      local p = wait_in(r, 5)
      eq(waiters_of(r), 1)
      p:kill() p:join()]]
  end)

  it("cannot be waited for among others, and says so", function()
    ok[[raises({ "wait", "in line", "acquire" }, mp.wait, { mp.RateLimiter(1) })]]
  end)

  it("refuses what makes no sense, by name", function()
    ok[[
      local new, r = mp.RateLimiter, mp.RateLimiter { rate = 1, burst = 20 }
      raises({ "RateLimiter", "table or number" }, new)
      for _, case in ipairs {
        { { "'rate'", "above 0", "nil" }, {} }, { { "'rate'", "above 0", "0" }, { rate = 0 } },
        { { "'rate'", "above 0", "-1" }, { rate = -1 } }, { { "'rate'", "nan" }, { rate = 0 / 0 } },
        { { "'rate'", "inf" }, { rate = math.huge } }, { { "'rate'", "number", "x" }, { rate = "x" } },
        { { "'rate'", "1e9" }, { rate = 2e9 } }, { { "'burst'", "above 0" }, { rate = 1, burst = 0 } },
        { { "'rate'", "year" }, { rate = 1e-3, burst = 1e9 } }, { { "'bursts'" }, { rate = 1, bursts = 2 } },
        { { "'name'", "string" }, { rate = 1, name = 5 } },
      } do
        case[1][#case[1] + 1] = "RateLimiter"
        raises(case[1], new, case[2])
      end
      for _, call in ipairs { "acquire", "try" } do
        local f = r[call]
        raises({ "RateLimiter:" .. call, "#1", "above 0", "0" }, f, r, 0)
        raises({ "RateLimiter:" .. call, "#1", "above 0", "-2" }, f, r, -2)
        raises({ "RateLimiter:" .. call, "#1", "nan" }, f, r, 0 / 0)
        raises({ "RateLimiter:" .. call, "#1", "number", "text" }, f, r, "text")
        raises({ "RateLimiter:" .. call, "#1", "burst", "20", "21" }, f, r, 21)
      end
      raises({ "RateLimiter:acquire", "timeout" }, r.acquire, r, 1, -1)
      eq(r:tokens(), 20.0)]]
  end)
end)
