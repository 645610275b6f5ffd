-- A process that runs without waiting notices the deaths of others, after a bounded number of
-- calls.
local support = require "spec.support"
local ok = support.ok

-- victim(f, ...): runs f(said, ...) in a process, which is killed once it has said something. The
-- caller does not wait in the library after the death. within(n, step): step succeeds by its n-th call.
local prelude = [[
  local function victim(f, ...)
    local said = mp.Queue()
    local p = P(function(...) f(said, ...) said:put(true) mp.sleep(1000) end, ...)
    assert(said:get(10))
    local pid = p.pid
    os.execute(("kill -9 %d; while grep -qs '^State:.[^Z]' /proc/%d/status; do :; done"):format(pid, pid))
    return p
  end
  local function within(n, step)
    local count = 0
    repeat
      count = count + 1
      assert(count <= n, "not noticed within " .. n .. " calls")
    until step()
  end
]]

local function noticed(code) return ok(prelude .. code, { timeout = 20 }) end

-- In all of these step() is the call that is repeated, and finds something once the death is known.
local looks = {
  ["Lock:acquire(0)"] = [[local l = mp.Lock() victim(function() l:acquire() end)
    local function step() return l:acquire(0) end]],
  ["RLock:acquire(0)"] = [[local l = mp.RLock() victim(function() l:acquire() end)
    local function step() return l:acquire(0) end]],
  ["Lock:locked()"] = [[local l = mp.Lock() victim(function() l:acquire() end)
    local function step() return not l:locked() end]],
  ["Value:acquire(0)"] = [[local v = mp.Value("i", 0) victim(function() v:acquire() end)
    local function step() return v:acquire(0) end]],
  ["Condition:acquire(0)"] = [[local c = mp.Condition() victim(function() c:acquire() end)
    local function step() return c:acquire(0) end]],
  ["Semaphore:acquire(0)"] = [[local s = mp.Semaphore(1) victim(function() s:acquire() end)
    local function step() return s:acquire(0) end]],
  ["BoundedSemaphore:get_value()"] = [[local s = mp.BoundedSemaphore(1) victim(function() s:acquire() end)
    local function step() return s:get_value() == 1 end]],
  ["RateLimiter:try()"] = [[local r = mp.RateLimiter { rate = 1, burst = 60 } r:acquire(40)
    victim(function() local co = require "mpengine.co" co.spawn(r.acquire, r, 60) co.sleep(0) end)
    local function step() return r:try() end]],
  ["Barrier.broken"] = [[local b = mp.Barrier(2)
    victim(function() require("mpengine.co").spawn(b.wait, b) until_true(function() return b.n_waiting == 1 end) end)
    local function step() return b.broken end]],
  ["JoinableQueue:join(0)"] = [[local q = mp.JoinableQueue() q:put(1) victim(function() q:get() end)
    local function step() return q:join(0) end]],
  ["Pipe:recv(0)"] = [[local a, b = mp.Pipe() victim(function() return b end) b:close()
    local function step() return select(2, a:recv(0)) == "closed" end]],
  ["Pipe:poll()"] = [[local a, b = mp.Pipe() victim(function() return b end) b:close()
    local function step() return a:poll() end]],
  ["Pipe:poll(0)"] = [[local a, b = mp.Pipe() victim(function() return b end) b:close()
    local function step() return a:poll(0) end]],
  ["mp.wait(list, 0)"] = [[local a, b = mp.Pipe() victim(function() return b end) b:close()
    local function step() return mp.wait({ a }, 0)[1] end]],
  ["Process:is_alive()"] = [[local p = victim(function() end) local function step() return not p:is_alive() end]],
  ["Process.exitcode"] = [[local p = victim(function() end) local function step() return p.exitcode == -9 end]],
  ["Process:join(0)"] = [[local p = victim(function() end) local function step() return p:join(0) end]],
  ["mp.active_children()"] = [[victim(function() end) local function step() return #mp.active_children() == 0 end]],
  ["mp.stats()"] = [[victim(function() end) local function step() return #mp.stats().processes == 1 end]],
}

local sends = {
  ["numbers"] = "a:send(1)",
  ["strings"] = "a:send(('s'):rep(100000))",
  ["bytes"] = "a:send_bytes('s')",
  ["tables"] = "a:send({ 1, { 2 } })",
  ["what is sent between sleeps"] = "a:send(1), mp.sleep(1e-4)",
}

describe("a process that does not wait", function()
  for name, code in pairs(looks) do
    it("learns of a death by " .. name, function() noticed(code .. " within(100, step)") end)
    it("learns of a death in a task by " .. name, function()
      noticed(code .. " assert(mp.co.spawn(function() within(100, step) end):join())")
    end)
  end

  for what, call in pairs(sends) do
    it("learns that the reader is dead by sending " .. what, function()
      noticed(([[
        local a, b = mp.Pipe()
        victim(function() return b:poll() end)
        b:close()
        within(1000, function()
          local r, why = %s
          return not r and why == "closed" or select(2, a:send(1)) == "closed"
        end)]]):format(call))
    end)
  end

  it("learns that the last of several readers is dead, under every start method", function()
    ok([[
      for _, method in ipairs{ "fork", "spawn", "forkserver" } do
        local from, to = mp.Pipe(false)
        local said, list = mp.Queue(), {}
        local ctx = mp.get_context(method)
        for i = 1, 2 do
          list[i] = ctx.Process(function(e, q)
            q:put(1)
            while e:recv() do end
          end, from, said)
          list[i]:start()
        end
        for _ = 1, 2 do assert(said:get(10)) end
        from:close()
        kill(list[1].pid)
        for _ = 1, 1000 do assert(to:send(("s"):rep(3000))) end
        kill(list[2].pid)
        local n, sent, why = 0
        repeat sent, why = to:send(("s"):rep(3000)) n = n + 1 until not sent or n == 100000
        eq(why, "closed")
        for _, p in ipairs(list) do p:join() end
      end]], { timeout = 60 })
  end)

  it("frees the objects of the dead process", function()
    noticed([[
      victim(function() kept = {} for i = 1, 200 do kept[i] = mp.Queue() end end)
      local q = mp.Queue()
      within(1000, function()
        q:put(1) q:get()
        return #mp.stats().objects < 100
      end)]])
  end)
end)
