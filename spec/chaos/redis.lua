-- A storm over one server: workers, their processes, submitters, owners of locks and the server are killed with
-- kill -9, and stopped for longer than their leases, while tasks, locks, semaphores and a queue are in use, over a line
-- that cuts, delays and holds bytes. The server has its file and is started again. Afterwards: each task of the
-- submitter that lived has ended well, its result came once, and it ran; no task is left with a worker; a counter that
-- a lock guards has the history of one owner at a time (history.lua), and fences have grown; the queue's items came in
-- order, all of them, once; all permits are there, and nothing waits for what has gone.
--
-- Where network namespaces may be made, a worker and an owner are in another one than the server, and are cut off for
-- more than their leases too.
--
-- With the modes "everysec" and "cut" the server comes back as it was a moment ago: in the first while its file is
-- slow, in the second since the end of its file is cut off, at a random byte. Then items may be lost or doubled, and
-- the counter may go back at these times; all else is asked for as before.
-- usage: redis.lua [seconds [seed [always|everysec|cut]]]
local mp = require "mpengine"
local core = require "mpengine.core"
local history = require "spec.chaos.history"
local netns = require "spec.support.netns"
local owner = require "spec.chaos.owner"

local SECONDS <const>, LEASE <const>, PATIENCE <const> = tonumber(arg[1]) or 60, 2, 90
local COMMAND <const> = arg[-1] or "mpengine"
local seed <const> = tonumber(arg[2]) or os.time()
math.randomseed(seed)
local MODE <const> = arg[3] or "always"
local IS_SURE <const> = MODE == "always"
local MOST <const> = 1 << 17 -- bytes that are cut off
local SERVER <const> = os.getenv "MPENGINE_REDIS_SERVER" or "redis-server"
print(("seed %d, %s s, %s"):format(seed, SECONDS, MODE))
io.stdout:flush()

local dir
do
  local pipe <close> = io.popen "mktemp -d"
  dir = pipe:read "l"
end
do
  local f <close> = assert(io.open(dir .. "/jobs.lua", "w"))
  f:write [[
    local jobs = {}
    function jobs.note(path, n)
      local f = io.open(path, "a")
      f:write(n, "\n")
      f:close()
      return n
    end
    return jobs
  ]]
end

local KEY <const> = dir .. "/key"
do
  local f <close> = assert(io.open(KEY, "w"))
  f:write "the key of this storm"
end
os.execute("chmod 600 " .. KEY)

-- ---- programs --------------------------------------------------------------------------------

local net, why_not = netns.make(("%06d"):format(core.pid() % 1000000))
if not net then print("no partitions: " .. why_not) end
local _ <close> = setmetatable({}, { __close = function() if net then netns.remove(net) end end })
local FAR <const> = ("redis://%s:6379"):format(netns.SERVER)

local function start_server()
  local words = { SERVER, "--port", "0", "--unixsocket", dir .. "/socket", "--dir", dir,
    "--save", "", "--appendonly", "yes", "--appendfsync", MODE == "cut" and "no" or MODE }
  if net then
    for _, word in ipairs{ "--port", "6379", "--bind", netns.SERVER, "--protected-mode", "no" } do
      words[#words + 1] = word
    end
    words = netns.at(net, "server", table.unpack(words))
  end
  words.stdout = "pipe"
  local p = mp.subprocess.Popen(words)
  repeat
    local line = p:read "l"
    if not line then error "the server does not start" end
  until line:find "[Rr]eady to accept"
  return p
end

local server = start_server()
local proxy = mp.subprocess.Popen{ COMMAND, "spec/support/proxy.lua", dir .. "/socket", stdin = "pipe",
  stdout = "pipe" }
local URL <const> = "redis://127.0.0.1:" .. proxy:read "l"

local function line(words)
  proxy:write(words .. "\n")
  if proxy:read "l" ~= "done" then error("the proxy has ended: " .. tostring(proxy:wait(5))) end
end

local log = assert(io.open(dir .. "/workers.log", "a"))

local function start_worker(is_far)
  local words = { "env", "LUA_PATH=" .. dir .. "/?.lua;;", COMMAND, "worker", "--lease", LEASE, "-j", "2",
    "--allow", "jobs.*", "--key-file", KEY, is_far and FAR or URL }
  if is_far then words = netns.at(net, "client", table.unpack(words)) end
  words.stderr = log
  return mp.subprocess.Popen(words)
end

-- ---- actors ----------------------------------------------------------------------------------

local stop, failures = mp.Event(), mp.Queue()
local submitted, put = mp.Value("q", 0), mp.Value("q", 0)

local function check(ok, what)
  if not ok then failures:put(what) end
end

local function open() return owner.open(URL, { lease = LEASE, key_file = KEY }) end

-- A process that says how it failed.
local function actor(name, f)
  local p = mp.Process{ name = name, daemon = true, target = function()
    local ok, err = xpcall(f, debug.traceback)
    if not ok then failures:put(name .. ": " .. tostring(err)) end
  end }
  p:start()
  return p
end

local function submit(path, count)
  local pool, called, first = open():Pool{ retries = 100000 }, {}, 0
  while not stop:is_set() do
    local results = {}
    for i = 1, 40 do
      local id = first + i
      results[i] = pool:apply_async("jobs.note", { path, id }, { callback = function(n)
        called[n] = (called[n] or 0) + 1
      end })
    end
    for i, r in ipairs(results) do
      local n, why = r:get(PATIENCE)
      check(n == first + i, ("task %d: %s %s"):format(first + i, tostring(n), tostring(why)))
    end
    first = first + 40
    if count then count.value = first end
  end
  pool:close()
  check(pool:join(PATIENCE), "the pool's tasks do not end")
  mp.sleep(0)
  for i = 1, first do check(called[i] == 1, ("the result of task %d came %s times"):format(i, called[i])) end
end

local HISTORY <const> = dir .. "/history"

local function guard() owner.guard(open(), HISTORY, check, function() return stop:is_set() end) end

local inside, PERMITS <const> = mp.Value("q", 0), 2

-- Takes permits, and turns at a limiter. As many tasks as there are permits have one at a time.
local function take_turns()
  local m = open()
  local s, r = m:Semaphore("s", PERMITS), m:RateLimiter("r", { rate = 300 })
  while not stop:is_set() do
    s:acquire()
    local n = inside:add(1)
    check(n <= PERMITS or not IS_SURE, ("%d tasks have the %d permits"):format(n, PERMITS))
    inside:add(-1)
    s:release()
    check(r:acquire(1, PATIENCE), "the limiter lets nothing through")
  end
end

-- Waits for notifications, and gives some.
local function notify()
  local c = open():Condition "c"
  while not stop:is_set() do
    c:acquire()
    pcall(c.notify, c)
    local ok, err = pcall(c.wait, c, 0.5)
    check(ok or owner.is_loss(err), "Condition:wait: " .. tostring(err))
    ok, err = pcall(c.release, c)
    check(ok or owner.is_loss(err), "Condition:release: " .. tostring(err))
  end
end

local function produce()
  local q, n = open():Queue("q", 50), 0
  while not stop:is_set() do
    check(q:put(n + 1), "an item was refused")
    n = n + 1
    put.value = n
    if n % 20 == 0 then mp.sleep(0.002) end
  end
  q:close()
end

local function consume()
  local last, list = 0, {}
  for n in open():Queue("q", 50):iter() do
    check(n > last or not IS_SURE, ("item %d came after %d"):format(n, last))
    last = n
    list[#list + 1] = n
  end
  return list
end

local taken = { mp.Queue(), mp.Queue() }
local living = { actor("submitter", function() submit(dir .. "/ran", submitted) end), actor("producer", produce) }
for i, to in ipairs(taken) do
  living[#living + 1] = actor("consumer " .. i, function() for _, n in ipairs(consume()) do to:put(n) end end)
end
for i = 1, 3 do living[#living + 1] = actor("turns " .. i, take_turns) end
for i = 1, 2 do living[#living + 1] = actor("notifier " .. i, notify) end
local makers = {
  function() return actor("submitter that is killed", function() submit(dir .. "/other") end) end,
  function() return actor("owner", guard) end, function() return actor("owner", guard) end,
}
local mortal, workers = {}, { start_worker(), start_worker(), net and start_worker(true) }

local function start_far_owner()
  local words = netns.at(net, "client", COMMAND, "spec/chaos/owner.lua", FAR, LEASE, KEY, HISTORY)
  words.stdout = "pipe"
  return mp.subprocess.Popen(words)
end

local far = net and start_far_owner()
for i, make in ipairs(makers) do mortal[i] = make() end

-- ---- the storm -------------------------------------------------------------------------------

local deeds, done = {}, {}

function deeds.worker()
  local i = math.random(#workers)
  workers[i]:kill()
  workers[i]:wait()
  workers[i] = start_worker(i == 3)
end

function deeds.process()
  local pipe <close> = io.popen("ps -o pid= --ppid " .. workers[math.random(#workers)].pid)
  local pids = {}
  for word in pipe:read "a":gmatch "%d+" do pids[#pids + 1] = tonumber(word) end
  if #pids > 0 then core.kill_pid(pids[math.random(#pids)], 9) end
end

function deeds.mortal()
  local i = math.random(#mortal)
  mortal[i]:kill()
  mortal[i]:join()
  mortal[i] = makers[i]()
end

local cuts = {}

-- Cuts some bytes off the end of the server's file, few or many. It is mended as the manual says: when the cut is in
-- the middle of a script, the server would leave the script's beginning in the file, and carry it out another time.
local function cut_file()
  local pipe <close> = io.popen(("ls -t %s/appendonlydir/*.incr.aof %s/appendonly.aof 2>/dev/null"):format(dir, dir))
  local path, n = pipe:read "l", MOST ^ math.random() // 1 | 0
  if not path then return end
  os.execute(("truncate -s -%d %s; echo y | redis-check-aof --fix %s >/dev/null"):format(n, path, path))
end

function deeds.server()
  cuts[#cuts + 1] = not IS_SURE and mp.now() or nil
  server:kill()
  server:wait()
  if MODE == "cut" then cut_file() end
  mp.sleep(math.random() * 0.5)
  server = start_server()
end

local stops = {}

-- Stops a worker or an owner for up to more than three leases; it goes on while other things are done.
function deeds.stopped()
  local list = math.random(2) == 1 and workers or mortal
  local p = list[math.random(#list)]
  if not pcall(core.kill_pid, p.pid, 19) then return end
  stops[#stops + 1] = mp.co.spawn(function()
    mp.sleep(math.random() * 3.5 * LEASE)
    for _, now in ipairs(list) do -- it may have been killed meanwhile
      if now == p then core.kill_pid(p.pid, 18) end
    end
  end)
end

local is_joined = true

-- Cuts the worker and the owner in the other namespace off for up to more than three leases.
function deeds.cable()
  if not net or not is_joined then return end
  is_joined = false
  netns.cable(net, "down")
  stops[#stops + 1] = mp.co.spawn(function()
    mp.sleep(math.random() * 3.5 * LEASE)
    netns.cable(net, "up")
    is_joined = true
  end)
end

function deeds.line()
  local words = { "every 4000", "delay 30", "hold", "cut", "half" }
  line(words[math.random(#words)])
  mp.sleep(0.1 + math.random() * 0.4)
  line "calm"
end

local names = { "worker", "process", "mortal", "server", "line", "line", "process", "mortal", "stopped", "cable" }
local till = mp.now() + SECONDS
while mp.now() < till do
  mp.sleep(math.random() * 0.4)
  local name = names[math.random(#names)]
  deeds[name]()
  done[name] = (done[name] or 0) + 1
end
line "calm"
mp.co.joinall(stops)
stop:set()

-- ---- the account -----------------------------------------------------------------------------

local function join(p, what)
  if not p:join(PATIENCE) then
    check(false, what .. " does not end")
    p:kill()
  end
end

if far then
  far:kill()
  for what in far:lines() do check(false, "far owner: " .. what) end
  far:wait()
end
local got, lists = {}, {}
for i, to in ipairs(taken) do
  lists[i] = mp.co.spawn(function() for n in to:iter() do got[n] = (got[n] or 0) + 1 end end)
end
for _, p in ipairs(mortal) do join(p, p.name) end
for _, p in ipairs(living) do join(p, p.name) end
for i, to in ipairs(taken) do
  to:close()
  lists[i]:join()
end
local lost, doubled = 0, 0
for n = 1, put.value do
  lost = lost + (got[n] and 0 or 1)
  doubled = doubled + (got[n] and got[n] > 1 and 1 or 0)
  check(got[n] == 1 or not IS_SURE, ("item %d came %s times"):format(n, got[n]))
  got[n] = nil
end
-- A put may be in progress when its process knows of it last.
for n in pairs(got) do check(n == put.value + 1, ("an item that was not put: %s"):format(n)) end

local ran = {}
io.open(dir .. "/ran", "a"):close()
for id in io.lines(dir .. "/ran") do ran[id] = (ran[id] or 0) + 1 end
for i = 1, submitted.value do check(ran[tostring(i)], ("task %d has a result and never ran"):format(i)) end

local m = open()
local stored, unsure = history.check(HISTORY, cuts, m:dict "d":get("n", 0),
  function(what) check(false, what) end)
check(m:Lock "lock":acquire(PATIENCE), "the lock is not free")
check(m:Condition "c":acquire(PATIENCE), "the lock of the condition is not free")
check(m:RateLimiter("r", { rate = 300 }):acquire(1, PATIENCE), "the limiter lets nothing through at the end")
local permits = m:Semaphore("s", PERMITS):get_value()
check(permits == PERMITS, ("%d of %d permits are free"):format(permits, PERMITS))
local function keys(pattern)
  return mp.subprocess.run{ "redis-cli", "-s", dir .. "/socket", "KEYS", "mp:{default}:" .. pattern }.stdout
end

-- What a worker had that was killed at the end is found by the others, after its lease.
local limit = mp.now() + PATIENCE
while keys "runs:*":find "%S" and mp.now() < limit do mp.sleep(0.1) end
while m:Pool():stats().workers < #workers and mp.now() < limit do mp.sleep(0.1) end -- one may be connecting
for _, w in ipairs(workers) do
  w:kill "TERM"
  check(w:wait(20) == 0, "a worker's status at the end is " .. tostring(w.status))
end
check(not keys "runs:*":find "%S", "runs are left: " .. keys "runs:*")
server:kill()
server:wait()
proxy:kill()

failures:close()
local bad = 0
for what in failures:iter() do
  bad = bad + 1
  if bad <= 20 then print("FAILED: " .. what) end
end
local parts = {}
for name, count in pairs(done) do parts[#parts + 1] = ("%d %s"):format(count, name) end
table.sort(parts)
print(("%d tasks, %d increments (%d unknown), %d items (%d lost, %d doubled); deeds: %s"):format(submitted.value,
  stored, unsure, put.value, lost, doubled, table.concat(parts, ", ")))
if bad > 0 then
  print(("%d failures; the server's files are in %s"):format(bad, dir))
  os.exit(1, true)
end
os.execute("rm -rf " .. dir)
print "all accounts are right"
