-- The benchmarks: runs every row for us, for its peers and for the raw limit in turn, several rounds, and prints the
-- medians, the ratios and whether the targets are reached. README.md says how to read the table.
-- usage: lua5.4 bench/run.lua [ROW]      from the root of the repository; ROW is a part of a row's name
-- environment: ROW, ROUNDS (5), TSV (a file to write), LIMIT (seconds a run may take, 20), BENCH_SECONDS (seconds a run
--   measures, 0.3), MPENGINE, PYTHON, LUA, RAW (the folder of the raw programs)

local median = dofile("bench/lib.lua").median

local function env(name, default)
  local value = os.getenv(name)
  return value and value ~= "" and value or default
end

local filter = arg[1] or env("ROW", "")
local rounds = math.tointeger(tonumber(env("ROUNDS", "5")))
local limit = env("LIMIT", "20")
local mpengine = env("MPENGINE", "build/mpengine")

-- Contestants: the program we are compared with, its command, and the goal for our ratio to it: at
-- least so many times better than a peer, at most so many times the raw limit; { step, goal } when
-- there is a step on the way.

local function py(name, args, goal)
  return { name = name, command = env("PYTHON", "/usr/bin/python3") .. " -B bench/peers/" .. args, goal = goal }
end

local function lua(name, args, goal)
  return { name = name, command = env("LUA", "lua5.4") .. " bench/" .. args, goal = goal }
end

local function c(name, args, goal)
  return { name = name, command = env("RAW", "build/bench") .. "/" .. args, goal = goal }
end

-- Another program of ours, as a limit.
local function ours(name, args, goal)
  return { name = name, command = mpengine .. " bench/rows/" .. args, goal = goal }
end

-- A program of ours that is traced, beside itself when it is not: processor time of its processes. What the reader
-- says of events that its file has no room for is no result.
local trace_file = os.tmpname()
local function traced(name, args, goal)
  local command = ("sh -c 'exec %s --trace=%s.json bench/rows/traced.lua %s 2>/dev/null'"):format(mpengine, trace_file,
    args)
  return { "traced " .. name, { command = command }, {}, ours("untraced", "traced.lua " .. args, goal) }
end

-- The peers of a pool row.
local function pools(variant, pool_goal, executor_goal)
  return {
    py("Pool", "pool.py Pool " .. variant, pool_goal),
    py("Executor", "pool.py Executor " .. variant, executor_goal or pool_goal),
  }
end

local function task_queues(variant, goal)
  local all = {}
  for i, name in ipairs { "RQ", "Celery", "BullMQ" } do
    all[i] = py(name, ("redis_peers.py %s %s"):format(name:lower(), variant), goal)
  end
  return all
end

local function codec(variant, goal)
  return { py("pickle", "pickled.py " .. variant, goal) }
end

-- A row of an echo server: connections that are busy, beside idle ones; "bytes": what an idle one costs.
local function echo(name, connections, idle, luv_goal, gevent_goal)
  local load = ("echo %s %s "):format(connections, idle)
  local python, l = env("PYTHON", "/usr/bin/python3") .. " -B bench/peers/", env("LUA", "lua5.4") .. " bench/peers/"
  return { name, c("", load .. mpengine .. " bench/rows/echo.lua"),
    { c("luv", load .. l .. "echo_luv.lua", luv_goal), c("gevent", load .. python .. "echo_gevent.py", gevent_goal),
      c("asyncio", load .. python .. "echo_asyncio.py"), c("cqueues", load .. l .. "echo_cqueues.lua") },
    idle ~= "bytes" and c("epoll in C", load .. env("RAW", "build/bench") .. "/echo serve") or nil }
end

-- A row of a server of HTTP or of WebSockets, with 100 connections: the load is that of the echo rows.
local function served(name, protocol, workers, peers, raw)
  local load = ("echo 100 %s "):format(protocol)
  for i, peer in ipairs(peers) do peers[i] = c(peer[1], load .. peer[2], peer[3]) end
  return { name, c("", ("%s%s bench/rows/serve.lua %s %d"):format(load, mpengine, protocol, workers)), peers,
    raw and c(raw[1], load .. raw[2]) }
end
local serve_py = env("PYTHON", "/usr/bin/python3") .. " -B bench/peers/serve_"
local nginx = "sh bench/peers/serve_nginx.sh "

-- A program that gets the URL of the server of the http rows.
local function of_http(name, command, goal) return c(name, "http " .. command, goal) end
local our_http = mpengine .. " bench/rows/http.lua "
local function http_py(name, variant, goal)
  local python = env("PYTHON", "/usr/bin/python3")
  return of_http(name, ("%s -B bench/peers/http_%s.py %s"):format(python, name, variant), goal)
end

-- Calculations with many numbers, beside NumPy: a row for each operation, type and number of elements.
local function add_calculations(rows)
  local function add(operation, code, count, shown, goal, of)
    local args = ("%s %s %d %s"):format(operation, code, count, of or "")
    local name = ("array %s%s %s %s"):format(of and of .. " " or "", operation, code, shown)
    rows[#rows + 1] = { name, "array.lua " .. args, { py("NumPy", "nparray.py " .. args, goal) } }
  end
  local function add_both(operation, code, goal)
    add(operation, code, 131072, "131,072", goal)
    add(operation, code, 1000000, "1,000,000", goal)
  end
  for _, operation in ipairs{ "sum", "min", "dot", "scale", "axpy" } do
    for code in ("fdil"):gmatch "." do add_both(operation, code, 0.5) end
  end
  add_both("scale_double", "f", 0.5)
  for _, operation in ipairs{ "sum", "min", "dot", "scale", "axpy" } do
    add(operation, "d", 131072, "131,072", 0.5, "field")
  end
end

-- Each row: its name, our program, its peers, its raw limit; at_least and at_most bound our own figure, in `unit`;
-- above bounds what it is more than the limit.
-- stylua: ignore
local rows = {
  { "process fork start+join", "process.lua fork",
    { py("Process", "process.py fork"), c("a bare Lua's fork", "luafork") },
    c("fork+wait", "fork", 1.5) },
  { "process forkserver start+join", "process.lua forkserver", { py("Process", "process.py forkserver") },
    ours("our fork", "process.lua fork", 2) },
  { "process spawn start+join", "process.lua spawn", { py("Process", "process.py spawn", 10) }, nil,
    at_most = 5e6, unit = "ns" },

  { "queue int 1:1", "queue.lua int 1", { py("Queue", "mpqueue.py int 1", { 20, 40 }) } },
  { "queue int 2:2", "queue.lua int 2", { py("Queue", "mpqueue.py int 2", { 20, 30 }) } },
  { "queue 1 KiB 1:1", "queue.lua 1k 1", { py("Queue", "mpqueue.py 1k 1") } },
  { "queue 1 KiB 2:2", "queue.lua 1k 2", { py("Queue", "mpqueue.py 1k 2") } },
  { "queue 64 KiB 1:1", "queue.lua 64k 1",
    { py("Queue", "mpqueue.py 64k 1"), c("2 memcpy, 2 CPUs", "memcpy pass 65536") },
    c("2 memcpy", "memcpy item 65536", 2) },
  { "queue 64 KiB 2:2", "queue.lua 64k 2", { py("Queue", "mpqueue.py 64k 2") }, c("2 memcpy", "memcpy item 65536", 2) },
  { "queue round trip", "roundtrip.lua Queue",
    { py("Queue", "roundtrip.py Queue", 5) }, c("futex", "futex", 1.5) },
  { "simple queue round trip", "roundtrip.lua SimpleQueue",
    { py("SimpleQueue", "roundtrip.py SimpleQueue", 5) }, c("futex", "futex", 1.5) },

  { "array get", "array.lua get",
    { py("RawArray", "mparray.py RawArray get", 1), py("Array", "mparray.py Array get") },
    lua("C __index", "raw/accessor.lua get") },
  { "array set", "array.lua set",
    { py("RawArray", "mparray.py RawArray set", 1), py("Array", "mparray.py Array set") },
    lua("C __newindex", "raw/accessor.lua set") },
  { "array of structs get field", "array.lua get_field", { py("Array", "mparray.py Array get_field", 1) } },
  { "array of structs set field", "array.lua set_field", { py("Array", "mparray.py Array set_field", 1) } },
  { "array of structs set", "array.lua set_struct", { py("Array", "mparray.py Array set_struct", 1) } },
  { "array totable 1 MiB", "array.lua totable",
    { py("RawArray", "mparray.py RawArray totable") }, lua("table.move", "raw/tablemove.lua new", 1.5) },
  { "array set(list) 1 MiB", "array.lua settable",
    { py("RawArray", "mparray.py RawArray settable") }, lua("table.move", "raw/tablemove.lua old", 1.5) },
  { "array string 1 MiB", "array.lua string",
    { py("RawArray", "mparray.py RawArray string"), lua("s:sub", "raw/substring.lua") },
    c("memcpy", "memcpy slice 1048576", 1.5) },
  { "array set_string 1 MiB", "array.lua set_string",
    { py("RawArray", "mparray.py RawArray set_string") }, c("memcpy", "memcpy slice 1048576", 1.5) },
  { "array fill 1 MiB", "array.lua fill", {}, c("memcpy", "memcpy slice 1048576", 1.5) },

  { "dict get", "dict.lua get", { py("Manager", "mpdict.py get", { 100, 200 }), c("LMDB", "lmdb get", 1) } },
  { "dict set", "dict.lua set", { py("Manager", "mpdict.py set", { 100, 150 }), c("LMDB", "lmdb set") } },
  { "dict get, 1,000 keys", "dict.lua get 1000", { py("Manager", "mpdict.py get 1000", 200) } },
  { "dict set, 1,000 keys", "dict.lua set 1000", { py("Manager", "mpdict.py set 1000", 150) } },
  { "dict get in C", c("", "dict get"), { c("LMDB", "lmdb get", 1) } },
  { "dict set in C", c("", "dict set"), { c("LMDB", "lmdb set", 1) } },
  { "dict 2 processes", "dict.lua scale", {}, c("compute", "scale"), at_least = 1.6, unit = "x" },

  { "cache get", "cache.lua get",
    { py("memcached", "cached.py memcached get"), py("lru_cache", "cached.py lru_cache get") },
    ours("Dict:get", "cache.lua dict_get", 1.2) },
  { "cache set", "cache.lua set", { py("memcached", "cached.py memcached set") },
    ours("Dict:set", "cache.lua dict_set") },
  { "cache get, 1,000 keys", "cache.lua get 1000", { py("memcached", "cached.py memcached get") },
    ours("Dict:get", "cache.lua dict_get 1000", 1.2) },
  { "cache fetch of a hit", "cache.lua fetch", {}, ours("Cache:get", "cache.lua get", 1.3) },
  { "cache 2 processes", "cache.lua scale", {}, c("compute", "scale"), at_least = 1.6, unit = "x" },
  { "cache of 256 MiB, churned", "cache.lua churn 256", {}, nil, at_most = 1, unit = "%" },

  { "lock pair alone", "lock.lua alone", { py("Lock", "lock.py alone", { 1, 1.3 }) },
    lua("2 C methods", "raw/methods.lua") },
  { "lock pair contended", "lock.lua contended", { py("Lock", "lock.py contended", 1) } },
  { "remote dict get", "remote.lua get", { py("redis-py", "redis_peers.py get", 1) } },
  { "remote lock pair", "remote.lua lock", { py("redis-py", "redis_peers.py lock", 1) } },
  { "remote queue item", "remote.lua queue", { py("redis-py", "redis_peers.py queue") } },
  { "remote task, one at a time", "remote.lua trip", task_queues("trip", 3), nil, at_most = 3e5, unit = "ns" },
  { "remote task, 1,000 at once", "remote.lua tasks", task_queues("tasks", 3), nil, at_most = 2e4, unit = "ns" },
  { "remote map, an item", "remote.lua map", {}, nil, at_most = 2000, unit = "ns" },
  { "limiter try", "limiter.lua try", { py("by hand", "limiter.py alone") } },
  { "limiter acquire", "limiter.lua acquire", { py("by hand", "limiter.py alone") } },
  { "limiter acquire, 2 processes", "limiter.lua shared", { py("by hand", "limiter.py shared") } },
  { "event wake-up x2", "wakeup.lua event", { py("Event", "wakeup.py event") }, c("futex", "futex", 1.5) },
  { "condition wake-up x2", "wakeup.lua condition",
    { py("Condition", "wakeup.py condition") }, c("futex", "futex", 1.5) },

  { "pool map chunksize 1", "pool.lua map1", pools("map1", { 8, 15 }) },
  { "pool map", "pool.lua map", pools("map", 2) },
  { "pool apply", "pool.lua apply", pools("apply", 8) },
  { "pool apply_async", "pool.lua apply_async", pools("apply_async", 15) },
  { "pool imap_unordered", "pool.lua imap_unordered", pools("imap_unordered", 15) },
  { "pool apply_async, 20,000 first", "pool.lua submit20000", { py("Pool", "pool.py Pool submit20000", 8) } },
  { "pool imap_unordered, 20,000", "pool.lua unordered20000", { py("Pool", "pool.py Pool unordered20000", 8) } },
  { "pool map, 200,000", "pool.lua map200000", { py("Pool", "pool.py Pool map200000", 1.2) } },
  { "pool imap chunksize 100", "pool.lua imap100_200000", { py("Pool", "pool.py Pool imap100_200000", 1) } },
  { "pool first result", "pool.lua first", pools("first", 8) },
  { "pool C functions", c("", "host pool"), pools("apply_async") },
  { "pool CPU, 2 workers", "pool.lua cpu", pools("cpu"), c("compute", "scale"), at_least = 1.9, unit = "x" },
  { "pool 64 idle workers", "pool.lua idle64", pools("idle64"), nil, at_most = 1e9 / 300000, unit = "ns" },
  { "pool 64 sleeping tasks", "pool.lua sleep64", pools("sleep64"), c("sleep only", "sleepers") },

  { "task spawn+join", "co.lua spawn",
    { py("gevent", "co_gevent.py spawn", { 8, 12 }), lua("cqueues", "peers/co_cqueues.lua spawn", 1),
      lua("luv", "peers/co_luv.lua spawn") } },
  { "task 100,000 alive, joined", "co.lua alive 100000",
    { py("gevent", "co_gevent.py alive 100000"), lua("cqueues", "peers/co_cqueues.lua alive 100000", 1) } },
  { "task switch", "co.lua switch",
    { py("gevent", "co_gevent.py switch", { 3, 5 }), lua("cqueues", "peers/co_cqueues.lua switch"),
      lua("luv", "peers/co_luv.lua switch") }, lua("resume", "raw/resume.lua", 2) },
  { "task switch, 100,000 asleep", "co.lua switch 100000",
    { py("gevent", "co_gevent.py switch 100000", 5) }, lua("resume", "raw/resume.lua", 2) },
  { "task hand-off", "co.lua handoff", { py("gevent", "co_gevent.py handoff", 8) } },
  { "task memory", "co.lua memory 100000",
    { py("gevent", "co_gevent.py memory 100000"), lua("cqueues", "peers/co_cqueues.lua memory 100000"),
      lua("luv", "peers/co_luv.lua memory 100000") }, nil, at_most = 1200, unit = "bytes" },
  { "task memory, 1,000,000", "co.lua memory 1000000", {}, nil, at_most = 1200, unit = "bytes" },
  { "task timers late", "co.lua timers",
    { py("gevent", "co_gevent.py timers"), lua("cqueues", "peers/co_cqueues.lua timers"),
      lua("luv", "peers/co_luv.lua timers") }, nil, at_most = 5, unit = "%" },

  { "popen true", "popen.lua true", { py("Popen", "popen.py true", 1) } },
  { "popen 1 GB through cat", "popen.lua cat", { py("Popen", "popen.py cat", 1) } },
  { "socket to a worker and answer", "passing.lua", { py("send_handle", "passing.py") }, nil,
    at_most = 6e4, unit = "ns" },
  echo("echo 1 connection", 1, 0, 0.77, 1.5),
  echo("echo 100 connections", 100, 0, 0.77, 1.5),
  echo("echo 1,000 connections", 1000, 0, 0.77, 1.5),
  echo("echo 10,000 connections", 10000, 0, 0.77, 1.5),
  echo("echo 1, 5,000 idle", 1, 5000, 0.77, 1.5),
  echo("memory idle connection", 1, "bytes", nil, 1),

  { "http small bodies, 20 at once", of_http("", our_http .. "small"),
    { http_py("aiohttp", "small", 3), http_py("gevent", "small", 8) } },
  { "http 100 MB, sink", of_http("", our_http .. "sink"), { of_http("curl", "bench/peers/http_curl.sh", 0.9) } },
  { "http 100 MB, string", of_http("", our_http .. "body"),
    { http_py("aiohttp", "body"), http_py("gevent", "body") } },

  served("http server, hello", "http", 0, { { "pywsgi", serve_py .. "gevent.py", 5 },
    { "aiohttp", serve_py .. "aiohttp.py" }, { "node", "node bench/peers/serve_node.js", 1 } },
    { "nginx", nginx .. "1" }),
  served("http server, 2 workers", "http", 2, { { "node", "node bench/peers/serve_node.js" } },
    { "nginx", nginx .. "2" }),
  served("websocket echo", "ws", 0, { { "websockets", serve_py .. "websockets.py", 5 } }),

  { "codec encode ints", "codec.lua encode ints", codec("encode ints", 1.5) },
  { "codec decode ints", "codec.lua decode ints", codec("decode ints", 1.5) },
  { "codec bytes ints", "codec.lua bytes ints", codec("bytes ints", 1) },
  { "codec encode records", "codec.lua encode records", codec("encode records", 1.5) },
  { "codec decode records", "codec.lua decode records", codec("decode records", 1.5) },
  { "codec bytes records", "codec.lua bytes records", codec("bytes records", 1) },

  { "codec function again", "codec.lua again function",
    { py("marshal", "pickled.py again function") }, ours("an integer", "codec.lua again int") },
  { "codec bytes function again", "codec.lua bytes function", { py("marshal", "pickled.py bytes function") } },

  { "C queue 2 threads", c("", "host queue"), {}, nil, at_most = 200, unit = "ns" },
  { "C find a name", c("", "host find"), {}, nil, at_most = 1000, unit = "ns" },
  { "C send to a thread", c("", "host send"), {}, c("futex wake", "wake"), above = 2000, unit = "ns" },
  { "C call finished, in a task", c("", "suspend loop"), {}, nil, at_most = 1000, unit = "ns" },
  { "C call finished, main chunk", c("", "suspend main"), {}, nil, at_most = 1000, unit = "ns" },
  { "C call finished, thread", c("", "suspend thread"), {}, c("futex wake", "wake"), above = 2000, unit = "ns" },

  { "start-up", c("", "start " .. mpengine .. " -e ''"),
    { c("python3", "start " .. env("PYTHON", "/usr/bin/python3") .. " -c ''") },
    c("lua5.4", "start " .. env("LUA", "lua5.4") .. " -e ''", 3) },

  traced("pool, 1 us", "pool 1", 1.05),
  traced("pool, 10 us", "pool 10", 1.05),
  traced("queue int, 1 us", "queue int 1", 1.05),
  traced("queue 1 KiB, 1 us", "queue 1k 1", 1.05),
  traced("lock, 10 us", "lock 10", 1.05),
  traced("queue int, bare", "queue int"),
  traced("put and get, bare", "alone"),
  traced("lock, bare", "lock"),

  { "memory queue item", "memory.lua queue", {} },
  { "memory dict entry", "memory.lua dict", {} },
  { "memory idle lock", "memory.lua lock", {} },
  { "memory 100 idle children", "children.lua", { py("Process", "children.py") }, nil, at_most = 10, unit = "%" },
}

-- Runs a command within the limit. Returns the value and its unit, or nil and the last line of its
-- output.
local function run(command)
  local pipe <close> = assert(io.popen(("exec 2>&1; timeout -k 1 %s %s"):format(limit, command)))
  local value, unit, last
  for line in pipe:lines() do
    value, unit = line:match "^([%d.e+-]+) (%S+)$"
    last = line:find "%S" and line or last
  end
  if value then return tonumber(value), unit end
  return nil, last or "no result within " .. limit .. " s"
end

-- One run of a contestant; one that failed once is not run again.
local function sample(who)
  if who.failure then return end
  local value, rest = run(who.command)
  if not value then
    local missing = rest:find "not found" or rest:find "No module" or rest:find "No such file"
    who.failure, who.reason = missing and "missing" or "failed", rest
    return
  end
  who.unit = rest
  who.values[#who.values + 1] = value
end

-- In a unit of "x" more is better; in all others less is.
local function ratio_to_peer(us, peer)
  if not us.median or not peer.median then return nil end
  local less = peer.median / us.median
  return us.unit == "x" and 1 / less or less
end

local function significant(value)
  if value >= 999.5 then return ("%.0f"):format(value) end
  return (("%.3g"):format(value))
end

local scales = { { 1e9, "s" }, { 1e6, "ms" }, { 1e3, "us" }, { 0, "ns" } }

add_calculations(rows)

local function figure(value, unit)
  if not value then return "" end
  if unit ~= "ns" then return significant(value) .. (unit == "bytes" and " B" or unit) end
  for _, scale in ipairs(scales) do
    if value >= scale[1] then return significant(value / math.max(scale[1], 1)) .. " " .. scale[2] end
  end
end

-- Targets of one printed line: their text, and the worst degree to which they are reached.
local Verdict = {}
Verdict.__index = Verdict

local levels = { [0] = "no", "step", "yes" }

-- `reach` is a value that has to be at least its goal, or, when `most`, at most.
function Verdict:add(reach, goal, format, most)
  if not goal then return end
  local steps = type(goal) == "table" and goal or { goal, goal }
  local level = -1
  if reach then
    level = 0
    for i, bound in ipairs(steps) do
      if (most and reach <= bound) or (not most and reach >= bound) then level = i end
    end
  end
  local said = type(goal) == "table" and format(goal[1]) .. "/" .. format(goal[2]) or format(goal)
  self.texts[#self.texts + 1] = (most and "<=" or ">=") .. said
  self.level = math.min(self.level or 2, level)
end

function Verdict:cells()
  return table.concat(self.texts, " "), self.level and (levels[self.level] or "?") or ""
end

local function verdict() return setmetatable({ texts = {} }, Verdict) end

local function times(x) return significant(x) .. "x" end

local layout = "%-28s %9s  %-24s %8s  %-20s %8s  %-22s %s"

local function print_line(...)
  print((layout:format(...):gsub("%s+$", "")))
  io.stdout:flush()
end

local function cell(who)
  return who and who.name .. " " .. (who.failure or figure(who.median, who.unit)) or ""
end

local tsv = env("TSV") and assert(io.open(env("TSV"), "w"))

local function write_tsv(...)
  if tsv then tsv:write(table.concat({ ... }, "\t"), "\n") end
end

local function write_contestant(row, who, role, ratio, goal)
  local v = who.values
  write_tsv(row, role, who.name, who.unit or who.failure, who.median or "", v[1] or "", v[#v] or "", ratio or "",
    type(goal) == "table" and table.concat(goal, "/") or goal or "")
end

-- Why programs gave no figure: each reason once, with the rows it affects.
local notes = {}

local function note(name, who)
  local text = who.name .. ": " .. who.reason
  if not notes[text] then
    notes[text] = {}
    notes[#notes + 1] = text
  end
  table.insert(notes[text], name)
end

local function measure(row)
  local name, program, peers, limit_of = row[1], row[2], row[3], row[4]
  local us = type(program) == "table" and program or { command = mpengine .. " bench/rows/" .. program }
  us.name = "mpengine"
  local all = { us, table.unpack(peers) }
  all[#all + 1] = limit_of
  for _, who in ipairs(all) do who.values = {} end
  for _ = 1, rounds do
    for _, who in ipairs(all) do sample(who) end
  end
  for _, who in ipairs(all) do
    if who.values[1] then who.median = median(who.values) end
    if who.failure then note(name, who) end
  end
  return us, peers, limit_of
end

local function show(row)
  local us, peers, limit_of = measure(row)
  local to_limit = limit_of and ratio_to_peer(us, limit_of)
  to_limit = to_limit and 1 / to_limit
  local function own(x) return figure(x, row.unit) end
  write_contestant(row[1], us, "us", nil, row.at_least or row.at_most or row.above)

  for i = 1, math.max(1, #peers) do
    local peer, first, v = peers[i], i == 1, verdict()
    local ratio = peer and ratio_to_peer(us, peer)
    if peer then v:add(ratio, peer.goal, times) end
    if first and limit_of then v:add(to_limit, limit_of.goal, times, true) end
    if first then v:add(us.median, row.at_least, own) end
    if first then v:add(us.median, row.at_most, own, true) end
    if first then v:add(us.median, row.above and limit_of.median and limit_of.median + row.above, own, true) end
    local target, reached = v:cells()
    print_line(first and row[1] or "", first and (us.failure or figure(us.median, us.unit)) or "", cell(peer),
      ratio and times(ratio) or "", first and cell(limit_of) or "", first and to_limit and times(to_limit) or "",
      target, reached)
    if peer then write_contestant(row[1], peer, "peer", ratio, peer.goal) end
  end
  if limit_of then write_contestant(row[1], limit_of, "raw", to_limit, limit_of.goal) end
end

print_line("row", "ours", "peer", "ratio", "raw limit", "ratio", "target", "reached")
write_tsv("row", "role", "who", "unit", "median", "min", "max", "ratio", "goal")
for _, row in ipairs(rows) do
  if row[1]:find(filter, 1, true) then show(row) end
end
if tsv then tsv:close() end
os.remove(trace_file)
os.remove(trace_file .. ".json")
for i, text in ipairs(notes) do
  print((i == 1 and "\nnot measured:\n" or "") .. "  " .. text)
  print("    " .. table.concat(notes[text], "; "))
end
