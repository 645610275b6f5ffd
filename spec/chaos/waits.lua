-- Very many waits of every kind, of many tasks in several processes at once, with and without time
-- limits, while other tasks tick, serve sockets, start processes and use a pool. Each wait is one
-- half of an exchange whose other half always follows, so a wait that takes long is a lost wake-up.
-- Each exchange checks what it got. In the end no process has more threads than before, and none
-- wakes up while all of them wait.
-- usage: waits.lua [waits]
local mp = require "mpengine"
local co = mp.co

local WAITS <const> = tonumber(arg[1]) or 100000
local LONG <const> = 60 -- seconds: no wait takes as long unless its wake-up was lost
local PROCESSES <const> = 3
local seed = os.time()
print(("seed %d, %d waits"):format(seed, WAITS))

local waits = 0 -- of this process

-- Calls wait(timeout) until it succeeds: sometimes for long, sometimes for so short that it often
-- fails.
local function patiently(what, wait)
  while true do
    local limit = math.random(2) == 1 and LONG or math.random() * 0.002
    waits = waits + 1
    local v, why = wait(limit)
    if v then return v end
    if limit == LONG then error(("a wait for %s was not woken (%s)"):format(what, tostring(why))) end
  end
end

local function same(what, got, want)
  if got ~= want then error(("%s: expected %s, got %s"):format(what, tostring(want), tostring(got))) end
end

-- ---- exchanges: make() what both share; a(shared, i) and b(shared, i) are the halves of round i ----

local function getting(q) return function(t) return q:get(t) end end
local function putting(q, v) return function(t) return q:put(v, t) end end
local function acquiring(x) return function(t) return x:acquire(t) end end
local function waiting(x) return function(t) return x:wait(t) end end
local function receiving(p) return function(t) return p:recv(t) end end

local function get(q, i) same("queue", patiently("an item", getting(q)), i) end
local function put(q, i) patiently("room", putting(q, i)) end

-- Both halves of an exchange that guards a counter: lock it, and let others run between read and
-- write.
local function count(shared)
  patiently(shared.name, acquiring(shared.lock))
  local again = shared.recursive and math.random(4) == 1
  if again then patiently(shared.name, acquiring(shared.lock)) end
  local n = shared.counter.value
  if math.random(3) == 1 then co.sleep(0) end
  shared.counter.value = n + 1
  if again then shared.lock:release() end
  shared.lock:release()
end

local function counted(shared, rounds) same(shared.name, shared.counter.value, 2 * rounds) end

local exchanges = {
  queue = {
    make = function() return { there = mp.Queue(2), back = mp.Queue(1) } end,
    a = function(s, i) for k = 0, 3 do put(s.there, i * 4 + k) end get(s.back, i) end,
    b = function(s, i) for k = 0, 3 do get(s.there, i * 4 + k) end put(s.back, i) end,
  },
  joinable = {
    make = function() return { q = mp.JoinableQueue() } end,
    a = function(s, i) s.q:put(i) patiently("task_done", function(t) return s.q:join(t) end) end,
    b = function(s, i) get(s.q, i) s.q:task_done() end,
  },
  pipe = {
    make = function() local a, b = mp.Pipe() return { a = a, b = b } end,
    a = function(s, i) s.a:send(i) same("pipe", patiently("a message", receiving(s.a)), -i) end,
    b = function(s, i) same("pipe", patiently("a message", receiving(s.b)), i) s.b:send(-i) end,
  },
  lock = {
    make = function() return { name = "a lock", lock = mp.Lock(), counter = mp.RawValue("q") } end,
    a = count, b = count, ended = counted,
  },
  rlock = {
    make = function()
      return { name = "an rlock", lock = mp.RLock(), recursive = true, counter = mp.RawValue("q") }
    end,
    a = count, b = count, ended = counted,
  },
  semaphore = {
    make = function() return { there = mp.Semaphore(0), back = mp.BoundedSemaphore(1), list = mp.List() } end,
    a = function(s, i)
      patiently("a permit", acquiring(s.back))
      s.list:append(i)
      s.there:release()
    end,
    b = function(s, i)
      patiently("a permit", acquiring(s.there))
      same("list", s.list:pop(), i)
      s.back:release()
    end,
  },
  event = {
    make = function() return { there = mp.Event(), back = mp.Event(), dict = mp.Dict() } end,
    a = function(s, i) s.dict.round = i s.there:set() patiently("an event", waiting(s.back)) s.back:clear() end,
    b = function(s, i)
      patiently("an event", waiting(s.there))
      s.there:clear()
      same("dict", s.dict.round, i)
      s.back:set()
    end,
  },
  condition = {
    make = function() return { cond = mp.Condition(), turn = mp.RawValue("i") } end,
    a = function(s)
      local _ <close> = s.cond:guard()
      patiently("its turn", function(t) return s.cond:wait_for(function() return s.turn.value == 0 end, t) end)
      s.turn.value = 1
      s.cond:notify()
    end,
    b = function(s)
      local _ <close> = s.cond:guard()
      while s.turn.value == 0 do
        waits = waits + 1
        s.cond:wait(math.random(2) == 1 and 0.001 or LONG)
      end
      s.turn.value = 0
      s.cond:notify_all()
    end,
  },
  barrier = { -- a wait that times out breaks it, so none does
    make = function() return { barrier = mp.Barrier(2) } end,
    a = function(s) waits = waits + 1 assert(s.barrier:wait(LONG)) end,
    b = function(s) waits = waits + 1 assert(s.barrier:wait(LONG)) end,
  },
  any = {
    make = function()
      local a, b = mp.Pipe()
      return { q = mp.Queue(), event = mp.Event(), a = a, b = b, back = mp.Queue(), never = mp.Event() }
    end,
    a = function(s, i)
      local how = i % 3
      if how == 0 then s.q:put(i) elseif how == 1 then s.event:set() else s.a:send(i) end
      get(s.back, i)
    end,
    b = function(s, i)
      local timer = co.spawn(co.sleep, math.random() * 0.002)
      local ready
      repeat
        ready = patiently("any of several", function(t)
          return mp.wait({ s.never, s.q, s.event, s.b, not timer:ready() and timer or nil }, t)[1]
        end)
      until ready ~= timer
      if ready == s.q then get(s.q, i) elseif ready == s.b then same("pipe", s.b:recv(0), i) else s.event:clear() end
      s.back:put(i)
    end,
  },
  killed = { -- a task that is killed while it waits takes nothing
    make = function() return { q = mp.Queue(), back = mp.Queue() } end,
    a = function(s, i) s.q:put(i) get(s.back, i) end,
    b = function(s, i)
      local got
      while not got do
        waits = waits + 1
        local t = co.spawn(function() got = s.q:get() end)
        if math.random(2) == 1 then co.sleep(0) else t:join(0.001) end
        t:kill()
        assert(t:join(LONG), "a killed task hangs")
      end
      same("killed", got, i)
      s.back:put(i)
    end,
  },
}

-- ---- other activity in a process ----

local socket = require "socket"

local function serve(port)
  local server = assert(socket.bind("127.0.0.1", 0))
  local _, number = server:getsockname()
  port:put(number)
  local client = server:accept()
  for line in function() return (client:receive()) end do client:send(line .. "\n") end
  server:accept() -- no client connects
end

local function talk(port, rounds)
  local s = assert(socket.connect("127.0.0.1", port:get()))
  for i = 1, rounds do
    waits = waits + 1
    s:send(i .. "\n")
    s:settimeout(LONG)
    same("socket", s:receive(), tostring(i))
  end
  s:close()
end

local function start_processes(rounds)
  for i = 1, rounds do
    local p = mp.Process(function() os.exit(i % 100) end)
    p:start()
    patiently("the end of a process", function(t) return p:join(t) end)
    same("exit code", p.exitcode, i % 100)
  end
end

local function use_pool(rounds)
  local pool <close> = mp.Pool(2)
  for i = 1, rounds do
    local r = pool:apply_async(function(x) return x * 2 end, { i })
    if i % 5 == 0 then patiently("any result", function(t) return mp.wait({ r, mp.Event() }, t)[1] end) end
    patiently("a result", function(t) return r:wait(t) end)
    same("result", r:get(), 2 * i)
  end
end

local function threads()
  local n = 0
  for _ in io.popen("ls /proc/" .. mp.current_process().pid .. "/task"):lines() do n = n + 1 end
  return n
end

-- ---- the processes ----

local lanes, ports, rounds = {}, {}
do
  local names = {}
  for name in pairs(exchanges) do names[#names + 1] = name end
  table.sort(names)
  local pairs_of = { { 1, 2 }, { 2, 3 }, { 3, 1 }, { 1, 1 } }
  for _, ends in ipairs(pairs_of) do
    for _, name in ipairs(names) do
      lanes[#lanes + 1] = { name = name, a = ends[1], b = ends[2], shared = exchanges[name].make() }
    end
  end
  rounds = WAITS // (#lanes * 3)
  for i = 1, PROCESSES do ports[i] = mp.Queue() end
end
local ready, finish, total, lag = mp.Barrier(PROCESSES + 1), mp.Event(), mp.Value("q"), mp.Value("d")

local function half(lane, which)
  local f = exchanges[lane.name][which]
  for i = 1, rounds do f(lane.shared, i) end
end

local function work(me)
  math.randomseed(seed, me)
  mp.monkey.patch_all{ io = false, os = false }
  local before, tasks, busy = threads(), {}, true
  local ticker = co.spawn(function()
    while busy do
      local from = mp.now()
      co.sleep(0.005)
      lag.value = math.max(lag.value, mp.now() - from - 0.005)
    end
  end)
  for _, lane in ipairs(lanes) do
    if lane.a == me then tasks[#tasks + 1] = co.spawn(half, lane, "a") end
    if lane.b == me then tasks[#tasks + 1] = co.spawn(half, lane, "b") end
  end
  -- the first process has nothing but shared objects and timers: it sleeps in another way
  if me > 1 then
    co.spawn(serve, ports[me])
    tasks[#tasks + 1] = co.spawn(talk, ports[me], rounds)
  end
  if me == 3 then tasks[#tasks + 1] = co.spawn(start_processes, rounds // 10) end
  co.joinall(tasks, nil, { raise_error = true })
  busy = false
  ticker:join()
  total:add(waits)
  same("threads", threads(), before)
  local parked = {}
  local vain = { getting(mp.Queue()), acquiring(mp.Semaphore(0)), waiting(mp.Event()), receiving((mp.Pipe())) }
  for i, wait in ipairs(vain) do parked[i] = co.spawn(wait) end
  ready:wait()
  finish:wait()
  co.killall(parked)
end

local function switches(pid)
  local f <close> = assert(io.open(("/proc/%d/status"):format(pid)))
  return tonumber(f:read("a"):match("\nvoluntary_ctxt_switches:%s*(%d+)"))
end

local processes = {}
for i = 1, PROCESSES do
  processes[i] = mp.Process(work, i)
  processes[i]:start()
end
local from = mp.now()
use_pool(rounds)
ready:wait()
local took = mp.now() - from
mp.sleep(0.2)
local before = {}
for i, p in ipairs(processes) do before[i] = switches(p.pid) end
mp.sleep(1)
for i, p in ipairs(processes) do
  local n = switches(p.pid) - before[i]
  if n > 2 then error(("process %d woke %d times in a second in which nothing happened"):format(i, n)) end
end
finish:set()
for i, p in ipairs(processes) do
  p:join()
  same("exit code", p.exitcode, 0)
  assert(i)
end
for _, lane in ipairs(lanes) do
  local ended = exchanges[lane.name].ended
  if ended then ended(lane.shared, rounds) end
end
print(("%d waits in %.1f s, a timer at most %.0f ms late"):format(total.value + waits, took, lag.value * 1000))
print("ok")
