-- Loops over calls that do not wait: the rest of the process goes on. A scenario that waits forever
-- fails by its time limit.
local support = require "spec.support"
local ok = support.ok

local function co(code) return ok("local co = mp.co " .. code) end

-- In all of these, step() is the call that is repeated.
local polls = {
  ["co.sleep(0)"] = "local function step() co.sleep(0) end",
  ["t:ready()"] = "local t = co.spawn(co.sleep, 1000) local function step() return t:ready() end",
  ["t:join(0)"] = "local t = co.spawn(co.sleep, 1000) local function step() return t:join(0) end",
  ["t.value"] = "local t = co.spawn(co.sleep, 1000) local function step() return t.value end",
  ["co.wait(x, 0)"] = "local e = co.Event() local function step() return co.wait({ e }, 0)[1] end",
  ["co.joinall(x, 0)"] = "local t = co.spawn(co.sleep, 1000) local function step() return co.joinall({ t }, 0)[1] end",
  ["mp.wait(x, 0)"] = "local e = mp.Event() local function step() return mp.wait({ e }, 0)[1] end",
  ["co.Event:wait(0)"] = "local e = co.Event() local function step() return e:wait(0) end",
  ["co.Event:is_set()"] = "local e = co.Event() local function step() return e:is_set() end",
  ["co.AsyncResult:get(0)"] = "local r = co.AsyncResult() local function step() return r:get(0) end",
  ["co.AsyncResult:ready()"] = "local r = co.AsyncResult() local function step() return r:ready() end",
  ["co.Queue:get(0)"] = "local q = co.Queue() local function step() return q:get(0) end",
  ["co.Queue:empty()"] = "local q = co.Queue() local function step() return not q:empty() end",
  ["co.Lock:locked()"] = "local l = co.Lock() l:acquire() local function step() return not l:locked() end",
  ["co.Lock:acquire(0)"] = "local l = co.Lock() l:acquire() local function step() return l:acquire(0) end",
  ["co.Semaphore:get_value()"] = "local s = co.Semaphore(0) local function step() return s:get_value() > 0 end",
  ["Event:wait(0)"] = "local e = mp.Event() local function step() return e:wait(0) end",
  ["Event:is_set()"] = "local e = mp.Event() local function step() return e:is_set() end",
  ["Queue:get(0)"] = "local q = mp.Queue() local function step() return q:get(0) end",
  ["Queue:empty()"] = "local q = mp.Queue() local function step() return not q:empty() end",
  ["Queue:put(x, 0) of a full one"] = "local q = mp.Queue(1) q:put(1) local function step() return q:put(2, 0) end",
  ["Lock:acquire(0)"] = "local l = mp.Lock() l:acquire() local function step() return l:acquire(0) end",
  ["Lock:locked()"] = "local l = mp.Lock() l:acquire() local function step() return not l:locked() end",
  ["Semaphore:acquire(0)"] = "local s = mp.Semaphore(0) local function step() return s:acquire(0) end",
  ["RateLimiter:try()"] = "local r = mp.RateLimiter(1e-6) r:acquire() local function step() return r:try() end",
  ["RateLimiter:acquire(1, 0)"] = "local r = mp.RateLimiter(1e-6) r:acquire() "
    .. "local function step() return r:acquire(1, 0) end",
  ["RateLimiter:tokens()"] = "local r = mp.RateLimiter(1e-6) r:acquire() "
    .. "local function step() return r:tokens() >= 1 end",
  ["Pipe:poll()"] = "local a, b = mp.Pipe() local function step() return a:poll(), b end",
  ["Pipe:recv(0)"] = "local a, b = mp.Pipe() local function step() return a:recv(0), b end",
  ["p:is_alive()"] = "local p = mp.Process{ target = mp.sleep, args = { 1000 }, daemon = true } p:start() "
    .. "local function step() return not p:is_alive() end",
  ["p.exitcode"] = "local p = mp.Process{ target = mp.sleep, args = { 1000 }, daemon = true } p:start() "
    .. "local function step() return p.exitcode end",
  ["p:join(0)"] = "local p = mp.Process{ target = mp.sleep, args = { 1000 }, daemon = true } p:start() "
    .. "local function step() return p:join(0) end",
}

-- And calls that never have to wait.
local busy = {
  ["co.Queue put and get"] = "local q = co.Queue() local function step() q:put(1) q:get() end",
  ["co.Event:wait() of a set one"] = "local e = co.Event() e:set() local function step() e:wait() end",
  ["co.Lock"] = "local l = co.Lock() local function step() l:acquire() l:release() end",
  ["co.RLock"] = "local l = co.RLock() local function step() l:acquire() l:release() end",
  ["co.Semaphore"] = "local s = co.Semaphore() local function step() s:acquire() s:release() end",
  ["t:get() of an ended one"] = "local t = co.spawn(print) t:join() local function step() t:get() end",
  ["Queue put and get"] = "local q = mp.Queue() local function step() q:put({}) q:get() end",
  ["Queue:get() of a long one"] = "local q = mp.Queue() for i = 1, 100000 do q:put(i) end "
    .. "local function step() q:put(q:get()) end",
  ["Pipe"] = "local a, b = mp.Pipe() local function step() a:send(1) b:recv() end",
  ["Lock"] = "local l = mp.Lock() local function step() l:acquire() l:release() end",
  ["RLock by with"] = "local l = mp.RLock() local function step() l:with(type, 1) end",
  ["Event:wait() of a set one"] = "local e = mp.Event() e:set() local function step() e:wait() end",
  ["Semaphore"] = "local s = mp.Semaphore() local function step() s:acquire() s:release() end",
  ["RateLimiter"] = "local r = mp.RateLimiter(1e9) local function step() r:acquire() end",
  ["mp.wait of a ready one"] = "local q = mp.Queue() q:put(1) local function step() mp.wait{ q } end",
  ["co.wait of a ready one"] = "local q = co.Queue() q:put(1) local function step() co.wait{ q } end",
}

local others = [[
  local left = 4
  local function one_less() left = left - 1 end
  co.spawn(function() for _ = 1, 100 do co.sleep(0) end one_less() end)
  co.spawn(function() for _ = 1, 5 do co.sleep(0.001) end one_less() end)
  local go, answer = mp.Event(), mp.Queue()
  local peer = mp.Process{ target = function() go:wait() answer:put(1) end, daemon = true }
  peer:start()
  co.spawn(function() go:set() answer:get() one_less() end)
  co.spawn(function() assert(mp.subprocess.run{ "echo", "x" }.stdout == "x\n") one_less() end)]]

describe("a loop over", function()
  for _, set in ipairs { polls, busy } do
    for name, step in pairs(set) do
      it(name .. " in the main chunk lets tasks, timers, processes and programs go on", function()
        co(step .. others .. " repeat assert(not step()) until left == 0 os.exit(0)")
      end)

      it(name .. " in a task does so, too", function()
        co(step .. others .. [[
          local t = co.spawn(function() repeat assert(not step()) until left == 0 end)
          t:join() os.exit(0)]])
      end)
    end
  end

  it("r:ready() and r:get(0) of a pool lets its results arrive", function()
    co[[
      local pool <close> = mp.Pool(1)
      local r, s = pool:apply_async(math.abs, { -1 }), pool:apply_async(math.abs, { -2 })
      repeat until r:ready()
      local value
      repeat value = s:get(0) until value
      eq(value, 2)]]
  end)

  it("co.sleep(0) lets a function on a thread complete", function()
    co[[
      local value
      co.spawn(function() value = co.offload(function() return 5 end) end)
      repeat co.sleep(0) until value]]
  end)

  it("a call that waits in place lets the others go on", function()
    co[[
      local q, n = co.Queue(), 0
      local t = co.spawn(function() for _ = 1, 10 do co.sleep(0) n = n + 1 end end)
      table.sort({ 3, 2, 1 }, function(a, b)
        while not t:ready() do q:put(1) q:get() end
        return a < b
      end)
      eq(n, 10)]]
  end)

  it("a queue is served in turn by tasks that never have to wait", function()
    co[[
      local q, got = mp.Queue(), { 0, 0, 0 }
      for i = 1, 3000 do q:put(i) end
      local tasks = {}
      for i = 1, 3 do
        tasks[i] = co.spawn(function() while q:get(0) do got[i] = got[i] + 1 end end)
      end
      co.joinall(tasks)
      eq(got[1] + got[2] + got[3], 3000)
      for i = 1, 3 do assert(got[i] > 300, got[i]) end]]
  end)
end)

describe("yielding after a turn", function()
  it("loses nothing when the task is killed meanwhile", function()
    co[[
      local q, got = co.Queue(), 0
      for _ = 1, 10000 do q:put(1) end
      local t = co.spawn(function() while true do local v = q:get() got = got + v end end)
      co.sleep(0)
      assert(got > 0 and got < 10000)
      t:kill() t:join()
      eq(got + q:qsize(), 10000)]]
  end)

  it("does not happen between a query and what follows it", function()
    co[[
      local q, missed = co.Queue(), 0
      local function take()
        for _ = 1, 5000 do
          if not q:empty() and q:get(0) == nil then missed = missed + 1 end
          if q:qsize() == 0 then q:put(1) end
        end
      end
      co.joinall{ co.spawn(take), co.spawn(take), co.spawn(take) }
      eq(missed, 0)]]
  end)

  it("is where a task that only polls is killed", function()
    co[[
      local e = co.Event()
      local t = co.spawn(function() while not e:is_set() do end end)
      co.sleep(0)
      t:kill() t:join()
      eq(select(2, t:get()), "killed")]]
  end)

  it("ends a task that is killed there and then only computes", function()
    co[[
      local q, deaf = co.Queue(), false
      local t = co.spawn(function()
        while not deaf do q:put(1) end
        while true do end
      end)
      co.sleep(0)
      deaf = true
      t:kill() t:join()
      eq(select(2, t:get()), "killed")]]
  end)

  it("does not happen in a finalizer", function()
    co[[
      local q, inside = co.Queue(), false
      co.spawn(function() while true do assert(not inside) co.sleep(0) end end)
      setmetatable({}, { __gc = function()
        inside = true
        for i = 1, 5000 do q:put(i) q:empty() end
        inside = false
      end })
      collectgarbage()
      eq(q:qsize(), 5000)
      os.exit(0)]]
  end)
end)

-- A child sends as much as is taken, until this process ends.
local FLOOD = [[
  mp.monkey.patch_all()
  local socket = require "socket"
  local server = assert(socket.bind("127.0.0.1", 0))
  local port = select(2, server:getsockname())
  mp.Process{ daemon = true, target = function()
    local s = require "socket".connect("127.0.0.1", port)
    while s:send(("x"):rep(99) .. "\n") do end
  end }:start()
  local c = assert(server:accept())
  local ticks = 0
  co.spawn(function() while true do co.sleep(0.001) ticks = ticks + 1 end end)]]

describe("other tasks run while one reads", function()
  for _, pattern in ipairs { '"*l"', "10", "8192" } do
    it("a socket that always has something, by receive(" .. pattern .. ")", function()
      co(FLOOD .. " repeat assert(c:receive(" .. pattern .. ")) until ticks >= 20 os.exit(0)")
    end)
  end

  it("a socket that it does not wait for", function()
    co(FLOOD .. " c:settimeout(0) repeat c:receive(10) until ticks >= 20 os.exit(0)")
  end)

  it("readiness of a socket by select", function()
    co(FLOOD .. " repeat assert(#socket.select({ c }, nil) == 1) until ticks >= 20 os.exit(0)")
  end)

  it("nothing, since accept fails at once", function()
    co(FLOOD .. [[
      local late, files, file = assert(socket.connect("127.0.0.1", port)), {}, nil
      repeat
        file = io.open "/dev/null"
        files[#files + 1] = file
      until not file
      repeat assert(not server:accept()) until ticks >= 20 late:close() os.exit(0)]])
  end)

  it("lines of a program that prints forever", function()
    co[[
      mp.monkey.patch_all()
      local ticks = 0
      co.spawn(function() while true do co.sleep(0.001) ticks = ticks + 1 end end)
      local f = io.popen "yes"
      for _ in f:lines() do if ticks >= 20 then break end end
      os.exit(0)]]
  end)

  it("lines of standard input", function()
    local program = [[
      local mp = require "mpengine"
      mp.monkey.patch_all()
      local co, ticks = mp.co, 0
      co.spawn(function() while true do co.sleep(0.001) ticks = ticks + 1 end end)
      for _ in io.lines() do if ticks >= 20 then break end end
      print "read" os.exit(0)]]
    local line = ("yes | %s %s -e %s"):format(support.limit, support.quote(support.command),
      support.quote(program))
    assert.equal("read\n", support.shell(line))
  end)
end)

describe("the end of a turn", function()
  it("costs little in deep calls, also while the collector is stopped", function()
    support.ok(([[
      collectgarbage "stop"
      local q = mp.Queue()
      local function deep(n)
        if n > 0 then return (deep(n - 1)) end
        for _ = 1, 10000 do q:empty() end
      end
      local began = os.clock()
      deep(%d)
      assert(os.clock() - began < 2)]]):format(support.deep), { timeout = 30 })
  end)
end)
