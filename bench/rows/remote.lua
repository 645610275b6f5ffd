-- Objects and tasks over a redis-server of its own, on the socket of a path: ns each.
-- usage: remote.lua get|lock|queue|trip|tasks|map
--   get    a dict's value                   lock   acquire and release, uncontended
--   queue  put and get by one task          trip   a task of the pool, from call to result, one at a time
--   tasks  results of 1,000 calls at once   map    an item of a map
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

local what = arg[1]
local dir = assert(mp.subprocess.run { "mktemp", "-d" }).stdout:match "%S+"
local server <close> = mp.subprocess.Popen { "redis-server", "--port", "0", "--unixsocket", dir .. "/socket", "--dir",
  dir, "--save", "", "--appendonly", "yes", stdout = "pipe" }
repeat local line = server:read "l" until line:find "[Rr]eady to accept"
local url = "unix://" .. dir .. "/socket"
local m = mp.Manager(url)

local run = {}

function run.get(n)
  local d = m:dict("d", { key = 1 })
  for _ = 1, n do local _ = d.key end
end

function run.lock(n)
  local l = m:Lock "l"
  for _ = 1, n do
    l:acquire()
    l:release()
  end
end

function run.queue(n)
  local q = m:Queue "q"
  for i = 1, n do
    q:put(i)
    q:get()
  end
end

local function with_worker(f)
  local command = os.getenv "MPENGINE" or "build/mpengine"
  local worker <close> = mp.subprocess.Popen { command, "worker", "-j", "2", "--allow", "math.*", url, stderr = "pipe" }
  worker:read_err "l"
  local pool = m:Pool()
  pool:apply("math.abs", { 1 })
  bench.ns(function(n) f(pool, n) end, 1000)
end

local tasks = {}

function tasks.trip(pool, n)
  for i = 1, n do pool:apply("math.abs", { i }) end
end

function tasks.tasks(pool, n)
  for _ = 1, n, 1000 do
    local results = {}
    for i = 1, 1000 do results[i] = pool:apply_async("math.abs", { i }) end
    for i = 1, 1000 do results[i]:get() end
  end
end

function tasks.map(pool, n)
  local list = {}
  for i = 1, n do list[i] = i end
  pool:map("math.abs", list)
end

if tasks[what] then with_worker(tasks[what]) else bench.ns(run[what]) end
server:kill()
server:wait()
os.execute("rm -r " .. dir)
