-- A storm over one Redis server: workers, their processes, submitters, owners of locks and the server are killed with
-- kill -9 while tasks, locks and a queue are in use, over a line that cuts, delays and holds bytes. The
-- server has its file and is started again. Afterwards: each task of the submitter that lived has ended well, its
-- result came once, and it ran; a counter that a lock guards has every increment that was granted; fences have grown;
-- the queue's items came in order, all of them, once; and no task is left with a worker.
--
-- With the sync "everysec" a server that is killed may lose what it has answered last, while its file is slow: of the
-- counter and the queue nothing is asked then. Tasks are never lost.
-- usage: redis.lua [seconds [seed [always|everysec]]]
local mp = require "mpengine"
local core = require "mpengine.core"

local SECONDS <const>, LEASE <const>, PATIENCE <const> = tonumber(arg[1]) or 60, 2, 90
local COMMAND <const> = arg[-1] or "mpengine"
local seed <const> = tonumber(arg[2]) or os.time()
math.randomseed(seed)
local SYNC <const> = arg[3] or "always"
local IS_SURE <const> = SYNC == "always"
print(("seed %d, %s s, %s"):format(seed, SECONDS, SYNC))
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

-- ---- programs --------------------------------------------------------------------------------

local function start_server()
  local p = mp.subprocess.Popen{ "redis-server", "--port", "0", "--unixsocket", dir .. "/socket", "--dir", dir,
    "--save", "", "--appendonly", "yes", "--appendfsync", SYNC, stdout = "pipe" }
  repeat
    local line = p:read "l"
    if not line then error "redis-server does not start" end
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

local function start_worker()
  return mp.subprocess.Popen{ "env", "LUA_PATH=" .. dir .. "/?.lua;;", COMMAND, "worker", "--lease", LEASE, "-j", "2",
    "--allow", "jobs.*", URL, stderr = log }
end

-- ---- actors ----------------------------------------------------------------------------------

local stop, failures = mp.Event(), mp.Queue()
local granted, unknown = mp.Value("q", 0), mp.Value("q", 0)
local submitted, put = mp.Value("q", 0), mp.Value("q", 0)

local function check(ok, what)
  if not ok then failures:put(what) end
end

-- A manager is not made while there is no server.
local function open()
  while true do
    local ok, m = pcall(mp.Manager, URL, { lease = LEASE })
    if ok then return m end
    mp.sleep(0.05)
  end
end

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

local function is_loss(err)
  return tostring(err):find("is lost", 1, true) or tostring(err):find("is not held", 1, true)
end

local function guard()
  local m = open()
  local lock, d, last = m:Lock "lock", m:dict "d", 0
  while not stop:is_set() do
    lock:acquire()
    check(lock.fence > last, "a fence that has not grown")
    last = lock.fence
    local ok, err = pcall(d.set, d, "n", d:get("n", 0) + 1, { guard = lock })
    if ok then
      granted:add(1)
    else
      check(is_loss(err), "guarded set: " .. tostring(err))
      unknown:add(1)
    end
    ok, err = pcall(lock.release, lock)
    check(ok or is_loss(err), "release: " .. tostring(err))
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
local makers = {
  function() return actor("submitter that is killed", function() submit(dir .. "/other") end) end,
  function() return actor("owner", guard) end, function() return actor("owner", guard) end,
}
local mortal, workers = {}, { start_worker(), start_worker() }
for i, make in ipairs(makers) do mortal[i] = make() end

-- ---- the storm -------------------------------------------------------------------------------

local deeds, done = {}, {}

function deeds.worker()
  local i = math.random(#workers)
  workers[i]:kill()
  workers[i]:wait()
  workers[i] = start_worker()
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
  if i > 1 then unknown:add(1) end
  mortal[i] = makers[i]()
end

function deeds.server()
  server:kill()
  server:wait()
  mp.sleep(math.random() * 0.5)
  server = start_server()
end

function deeds.line()
  local words = { "every 4000", "delay 30", "hold", "cut", "half" }
  line(words[math.random(#words)])
  mp.sleep(0.1 + math.random() * 0.4)
  line "calm"
end

local names = { "worker", "process", "mortal", "server", "line", "line", "process", "mortal" }
local till = mp.now() + SECONDS
while mp.now() < till do
  mp.sleep(math.random() * 0.4)
  local name = names[math.random(#names)]
  deeds[name]()
  done[name] = (done[name] or 0) + 1
end
line "calm"
stop:set()

-- ---- the account -----------------------------------------------------------------------------

local function join(p, what)
  if not p:join(PATIENCE) then
    check(false, what .. " does not end")
    p:kill()
  end
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
for n = 1, put.value do check(got[n] == 1 or not IS_SURE, ("item %d came %s times"):format(n, got[n])) end

local ran = {}
io.open(dir .. "/ran", "a"):close()
for id in io.lines(dir .. "/ran") do ran[id] = (ran[id] or 0) + 1 end
for i = 1, submitted.value do check(ran[tostring(i)], ("task %d has a result and never ran"):format(i)) end

local m = open()
local n = m:dict "d":get("n", 0)
check(not IS_SURE or n >= granted.value and n <= granted.value + unknown.value,
  ("the counter has %d, %d were granted, %d may have been"):format(n, granted.value, unknown.value))
for _, w in ipairs(workers) do
  w:kill "TERM"
  check(w:wait(20) == 0, "a worker's status at the end is " .. tostring(w.status))
end

local function keys(pattern)
  return mp.subprocess.run{ "redis-cli", "-s", dir .. "/socket", "KEYS", "mp:{default}:" .. pattern }.stdout
end
check(not keys "runs:*":find "%S", "runs are left: " .. keys "runs:*")
server:kill()
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
print(("%d tasks, %d increments (%d unknown), %d items; deeds: %s"):format(submitted.value, granted.value,
  unknown.value, put.value, table.concat(parts, ", ")))
if bad > 0 then
  print(("%d failures; the server's files are in %s"):format(bad, dir))
  os.exit(1)
end
os.execute("rm -rf " .. dir)
print "all accounts are right"
