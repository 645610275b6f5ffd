-- The pool of a manager of a URL, and its workers.
local support = require "spec.support"
local redis = require "spec.support.redis"
local terminal = require "spec.support.terminal"

local server

setup(function()
  server = redis.start()
  support.write_file(server.dir .. "/jobs.lua", [[
    local jobs = {}
    function jobs.add(a, b) return a + b end
    function jobs.twice(x) return x * 2 end
    function jobs.bad(x) error({ what = x }) end
    function jobs.odd(x) if x % 2 == 0 then error("even " .. x, 0) end return x end
    function jobs.exit(code) os.exit(code) end
    function jobs.kill() require "mpengine.core" os.execute("kill -9 $PPID") end
    function jobs.sleep(s) require "mpengine".sleep(s) return s end
    function jobs.refuse(n) if n == 1 then return 1 end return nil, "refused " .. n end
    function jobs.many() return 1, nil, 3, nil end
    function jobs.none() end
    function jobs.meet(barrier) return barrier:wait(20) ~= nil end
    function jobs.await(event) return event:wait() end
    function jobs.incr(d, k) return d:incr(k) end
    function jobs.crash_once(d) if d:incr "runs" == 1 then os.exit(7) end return "second" end
    function jobs.fail_twice(d) if d:incr "runs" < 3 then error "not yet" end return d.runs end
    function jobs.pid() return require "mpengine".current_process().pid end
    function jobs.unsendable() return coroutine.create(print) end
    return jobs
  ]])
end)
teardown(function() redis.remove(server) end)

local HEAD = [[
local co = mp.co
package.path = %q .. "/?.lua;" .. package.path
local URL, NAMESPACE, COMMAND, DIR = %q, %q, %q, %q
local m = mp.Manager(URL, { namespace = NAMESPACE, lease = 2 })
local pool = m:Pool()
local jobs = require "jobs"
local function matches(text, pattern) raises(pattern, error, tostring(text), 0) end
-- A worker, once it is there; it ends with the scope.
local function worker(...)
  local before = pool:stats().workers
  local p = mp.subprocess.Popen{ "env", "LUA_PATH=" .. DIR .. "/?.lua;;", COMMAND, "worker", "--namespace", NAMESPACE,
    "--lease", "2", "-j2", URL, stderr = "pipe", ... }
  local line
  repeat line = p:read_err "l" until not (line and line:find "trying again$") -- the server was slow to answer
  matches(line, "processes")
  until_true(function() co.sleep(0.01) return pool:stats().workers > before end)
  return p
end
-- The pids of a process's children.
local function children(pid)
  local list = {}
  for child in io.popen("ps -o pid= --ppid " .. pid):lines() do list[#list + 1] = tonumber(child) end
  return list
end
]]

local spaces = 0

local function ok(code, opts)
  spaces = spaces + 1
  return support.ok(HEAD:format(server.dir, server.url, "spec" .. spaces, support.command, server.dir) .. code, opts)
end

describe("a remote pool", function()
  it("runs functions by name, and gives their results and errors", function()
    ok [[
      local w <close> = worker()
      eq({ pool:apply("jobs.add", { 1, 2 }), pool:apply(jobs.add, { 3, 4 }) }, { 3, 7 })
      eq(table.pack(pool:apply(jobs.many)), { 1, nil, 3, nil, n = 4 })
      eq(select("#", pool:apply(jobs.none)), 0)
      local done, err = pcall(pool.apply, pool, jobs.bad, { 7 })
      eq({ done, err.kind, err.value.what, err.pid > 0 }, { false, "error", 7, true })
      matches(err.traceback, "jobs.lua:4")
      matches(select(2, pcall(pool.apply, pool, "jobs.nothing")), "module 'jobs' has no function 'nothing'")
      matches(select(2, pcall(pool.apply, pool, jobs.unsendable)), "cannot send a coroutine")
      local d = m:dict "d"
      eq({ pool:apply(jobs.incr, { d, "n" }), d.n }, { 1, 1 })
      local called
      local r = pool:apply_async(jobs.twice, { 4 }, { callback = function(v) called = v end })
      eq({ r:get(), r:ready(), r:successful() }, { 8, true, true })
      co.sleep(0)
      eq(called, 8)
    ]]
  end)

  it("refuses closures, shared objects and wrong options at the call", function()
    ok [[
      local x = 1
      raises("this one is of no module, which closes over 'x'", function() pool:apply(function() return x end) end)
      raises("args[1]: cannot send a shared object", function() pool:apply(jobs.add, { mp.Lock() }) end)
      raises("'no name' is no name of a function", function() pool:apply "no name" end)
      raises("unknown option 'nonsense'", function() pool:apply_async(jobs.add, {}, { nonsense = 1 }) end)
      raises("option 'retries' must be an integer, 0 or more, got -1", function()
        pool:apply_async(jobs.add, {}, { retries = -1 })
      end)
      raises("the pool is still open", function() pool:join() end)
      pool:close()
      raises("Pool:apply: the pool is closed", function() pool:apply(jobs.add) end)
      eq(pool:join(), true)
    ]]
  end)

  it("maps lists and iterators in order, and names the item that failed", function()
    ok [[
      local w <close> = worker()
      local list, twice = {}, {}
      for i = 1, 1000 do list[i], twice[i] = i, 2 * i end
      eq(pool:map(jobs.twice, list), twice)
      eq(pool:map(jobs.twice, list, { chunksize = 7 }), twice)
      eq(pool:starmap(jobs.add, { { 1, 2 }, { 3, 4 } }), { 3, 7 })
      eq(pool:map_async(jobs.twice, { 5 }):get(), { 10 })
      eq(pool:map(jobs.twice, {}), {})
      local seen = {}
      for i, v in pool:imap(jobs.twice, list) do seen[i] = v end
      eq(seen, twice)
      local n, sum = 0, 0
      local function source() n = n + 1 return n <= 100 and n or nil end
      for _, v in pool:imap_unordered(jobs.twice, source) do sum = sum + v end
      eq(sum, 10100)
      local done, err = pcall(pool.map, pool, jobs.odd, { 1, 3, 4, 6 })
      eq({ done, err.index, err.item, err.value }, { false, 3, 4, "even 4" })
      local mixed = pool:map(jobs.odd, { 1, 2 }, { return_exceptions = true })
      eq({ mixed[1], mixed[2].message }, { 1, "even 2" })
      local endless, last = 0, nil
      for i in pool:imap(jobs.twice, function() endless = endless + 1 return endless end, { ahead = 50 }) do
        last = i
        if i == 10 then break end
      end
      eq({ last, endless < 100 }, { 10, true })
    ]]
  end)

  it("spreads the values of an iterator, and gives the reason of a nil, as mp.Pool does", function()
    ok [[
      local w <close> = worker()
      local function all(p)
        local got = {}
        for i, v in p:imap(jobs.add, pairs{ 10, 20, 30 }) do got[i] = v end
        for i, v, why in p:imap(jobs.refuse, { 1, 2 }) do got[#got + 1] = { i, v, why } end
        for i, v, why in p:imap_unordered(jobs.refuse, { 2 }) do got[#got + 1] = { i, v, why } end
        for i, v, why in p:imap(jobs.refuse, { 2 }, { pack = true }) do got[#got + 1] = { i, v, why } end
        got[#got + 1] = select(2, pcall(p.starmap, p, jobs.add, { 1 })).message
        return got
      end
      local local_pool <close> = mp.Pool(1)
      local got = all(pool)
      eq(got, all(local_pool))
      eq({ got[3], got[5], got[6] }, { 33, { 2, nil, "refused 2" }, { 1, nil, "refused 2" } })
    ]]
  end)

  it("fails the task whose process dies, or runs it again, and buries one that always dies", function()
    ok [[
      local w <close> = worker()
      local _, err = pcall(pool.apply, pool, jobs.exit, { 3 })
      eq({ err.kind, err.exitcode }, { "worker_died", 3 })
      _, err = pcall(pool.apply, pool, jobs.kill)
      eq({ err.kind, err.signal }, { "worker_died", 9 })
      eq(pool:apply_async(jobs.crash_once, { m:dict "c" }, { retries = 1 }):get(), "second")
      _, err = pcall(function() return pool:apply_async(jobs.exit, { 3 }, { retries = 2 }):get() end)
      eq({ err.kind, pool:stats().dead, pool:apply(jobs.add, { 1, 1 }) }, { "worker_died", 3, 2 })
    ]]
  end)

  it("repeats errors only when it is asked to", function()
    ok [[
      local w <close> = worker()
      local d = m:dict "d"
      eq(pool:apply_async(jobs.fail_twice, { d }, { retry_errors = 3 }):get(), 3)
      d:clear()
      matches(select(2, pcall(pool.apply, pool, jobs.fail_twice, { d })), "not yet")
      eq(d.runs, 1)
    ]]
  end)

  it("stops tasks at their timeouts and when they are cancelled, and delays them", function()
    ok [[
      local w <close> = worker()
      local _, err = pcall(function() return pool:apply_async(jobs.sleep, { 30 }, { timeout = 0.1 }):get() end)
      eq(err.kind, "timeout")
      local r = pool:apply_async(jobs.sleep, { 30 })
      co.sleep(0.1)
      eq({ r:cancel(), select(2, pcall(r.get, r)).kind }, { true, "cancelled" })
      eq({ pool:apply(jobs.add, { 1, 1 }), pool:apply(jobs.add, { 1, 2 }) }, { 2, 3 })
      local from = mp.now()
      eq(pool:apply_async(jobs.add, { 1, 1 }, { delay = 0.3 }):get(), 2)
      late(from, 0.3)
    ]]
  end)

  it("gives what a lost worker ran to another one", function()
    ok [[
      local w = worker()
      local r = pool:apply_async(jobs.sleep, { 0.5 }, { retries = 1 })
      local lost = pool:apply_async(jobs.sleep, { 30 })
      until_true(function() co.sleep(0.01) return pool:stats().ready == 0 end)
      co.sleep(0.1)
      w:kill()
      w:wait()
      local second <close> = worker()
      eq(r:get(20), 0.5)
      local _, err = pcall(lost.get, lost, 20)
      eq({ err.kind, err.message }, { "worker_died", "the worker is not heard of any more" })
    ]]
  end)

  it("loses no task and doubles no result when workers are killed again and again", function()
    ok([[
      local d = m:dict "d"
      local results = {}
      for i = 1, 300 do results[i] = pool:apply_async(jobs.incr, { d, i }, { retries = 50 }) end
      local w = worker()
      for round = 1, 3 do
        co.sleep(0.05)
        w:kill()
        w:wait()
        w = worker()
      end
      for i, r in ipairs(results) do eq(r:get(20) >= 1, true) end
      eq({ #d, pool:stats().outstanding, pool:stats().ready }, { 300, 0, 0 })
      w:kill()
    ]], { timeout = 60 })
  end)

  it("goes on when the server is killed and started again with its file", function()
    local own = redis.start("--appendonly yes")
    support.ok(HEAD:format(server.dir, own.url, "s", support.command, server.dir) .. ([[
      local w <close> = worker()
      local results = {}
      for i = 1, 200 do results[i] = pool:apply_async(jobs.sleep, { 0.01 }, { retries = 5 }) end
      co.sleep(0.2)
      os.execute("kill -9 %d")
      co.sleep(0.3)
      local again = mp.subprocess.Popen{ %q, "--port", "0", "--unixsocket", %q .. "/socket", "--dir", %q,
        "--save", "", "--appendonly", "yes", stdout = "null" }
      for i, r in ipairs(results) do eq(r:get(20), 0.01) end
      eq(pool:apply(jobs.add, { 1, 2 }), 3)
      again:kill()
    ]]):format(own.pid, redis.program, own.dir, own.dir), { timeout = 60 })
    redis.remove(own)
  end)

  it("keeps the tasks of a dead worker in their queue, and fails them also when no worker is left", function()
    ok([[
      local other = worker("--queue", "default")
      pool = m:Pool{ queue = "a" }
      local w = worker("--queue", "a")
      local again = pool:apply_async(jobs.sleep, { 0.2 }, { retries = 1 })
      local lost = pool:apply_async(jobs.sleep, { 30 })
      until_true(function() co.sleep(0.01) return pool:stats().ready == 0 end)
      w:kill()
      w:wait()
      local _, err = pcall(lost.get, lost, 20)
      eq(err.kind, "worker_died")
      eq({ again:ready(), pool:stats().ready, m:Pool():stats().ready }, { false, 1, 0 })
      local second <close> = worker("--queue", "a")
      eq(again:get(20), 0.2)
      other:kill()
    ]], { timeout = 60 })
  end)

  it("is shared by idle workers", function()
    ok [[
      local first <close> = worker()
      local second <close> = worker()
      local barrier, results = m:Barrier("all", 4), {}
      for i = 1, 4 do results[i] = pool:apply_async(jobs.meet, { barrier }) end
      for _, r in ipairs(results) do eq(r:get(), true) end
    ]]
  end)

  it("runs each task once when more come than go in one step, of all priorities and delays", function()
    ok [[
      local w <close> = worker()
      local d, results = m:dict "d", {}
      local priorities = { "high", "normal", "low" }
      for i = 1, 900 do
        results[i] = pool:apply_async(jobs.incr, { d, i }, { priority = priorities[i % 3 + 1],
          delay = i % 7 == 0 and 0.05 or nil, retries = i % 2 })
      end
      for _, r in ipairs(results) do eq(r:get(), 1) end
      eq(#d, 900)
    ]]
  end)

  it("sends what is enough for a step while its program computes", function()
    ok [[
      pool:apply_async(jobs.add, { 1, 1 })
      co.sleep(0.1)
      for i = 1, 300 do pool:apply_async(jobs.add, { i, i }) end
      local key = ("mp:{%s}:tasks:%s"):format(NAMESPACE, require("mpengine.remote.client").of(m).id)
      local count, file = nil, DIR .. "/count"
      os.execute(("sleep 0.1; redis-cli -s %s/socket HLEN %s > %s"):format(DIR, key, file))
      for line in io.lines(file) do count = tonumber(line) end
      eq(count, 1 + 1 + 256) -- that of before; the first one, at once; a full step
    ]]
  end)

  it("submits more than go in one step once each, also when the connection is lost in between", function()
    ok [[
      local w <close> = worker()
      local c, d, results = require("mpengine.remote.client").of(m), m:dict "d", {}
      for round = 1, 3 do
        for i = 1, 1500 do
          results[i] = pool:apply_async(jobs.incr, { d, 1500 * round + i })
          if i == 1000 then c.connections.commands:close "cut" end
        end
        for _, r in ipairs(results) do eq(r:get(), 1) end
      end
      eq(#d, 4500)
    ]]
  end)

  it("gives a worker large tasks some at a time", function()
    ok [[
      local text, results = ("x"):rep(1 << 16), {}
      for i = 1, 80 do results[i] = pool:apply_async("string.len", { text }) end
      until_true(function() co.sleep(0.01) return pool:stats().ready == 80 end)
      local w = require("mpengine.remote.client").of(mp.Manager(URL, { namespace = NAMESPACE, lease = 3 }))
      local work = require("mpengine.remote.tasks").WORK
      local given = w:run(true, work, "default", w.id, w:lease_ms(), 100, "2 here", 0)
      eq({ #given, pool:stats().ready }, { 2 + 2 * 64, 16 }) -- 4 MiB
      w:run(true, work, "default", w.id, w:lease_ms(), -2, "2 here", 0)
      eq(pool:stats().ready, 80)
      local real <close> = worker()
      for _, r in ipairs(results) do eq(r:get(), 1 << 16) end
    ]]
  end)

  it("gives no task to a worker that was judged dead before it asks again", function()
    ok [[
      local client, scripts = require "mpengine.remote.client", require "mpengine.remote.tasks"
      local function other(lease) return client.of(mp.Manager(URL, { namespace = NAMESPACE, lease = lease })) end
      local function work(w, ...) return w:run(true, scripts.WORK, "default", w.id, 1000, ...) end -- a second of lease
      local first, second = other(3), other(4)
      work(first, 5, "5 here", 0)
      eq(pool:stats().workers, 1)
      until_true(function() -- the second one is heard of, the first one is not
        co.sleep(0.02)
        work(second, 0, "0 here", 1)
        return second:command(true, { "HEXISTS", second.prefix .. "workers:default", first.id }) == 0
      end)
      first:run(true, scripts.RESUME, "default", first.id, 60000) -- it lives
      local r = pool:apply_async(jobs.add, { 1, 2 })
      until_true(function() co.sleep(0.01) return pool:stats().ready == 1 end)
      eq(first:command(true, { "HLEN", first.prefix .. "runs:default:" .. first.id }), 0)
      eq(#work(first, 5, "5 here", 0), 4) -- now it has it
      eq(r:ready(), false)
    ]]
  end)

  it("takes the first result of a task, whichever worker has it, and no second one", function()
    ok [[
      local core = require "mpengine.core"
      local client, scripts = require "mpengine.remote.client", require "mpengine.remote.tasks"
      local c = client.of(m)
      local w = client.of(mp.Manager(URL, { namespace = NAMESPACE, lease = 3 })) -- in place of a worker
      local results, called = {}, 0
      for i = 1, 3 do
        results[i] = pool:apply_async(jobs.add, { i, i }, { callback = function() called = called + 1 end })
      end
      until_true(function() co.sleep(0.01) return pool:stats().ready == 3 end)
      local function work(...) return w:run(true, scripts.WORK, "default", w.id, w:lease_ms(), ...) end
      local function results_of(first, ...)
        local list = {}
        for i, id in ipairs{ ... } do
          list[2 * i - 1], list[2 * i] = id, core.encode_outside("", "", first + i, "r")
        end
        return #list // 2, core.envelope_several(nil, "", list, 1, #list // 2), ...
      end
      local given = work(2, "2 here", 0) -- it has room for two
      eq(#given, 6)
      local third = c.id .. " 3"
      work(0, "2 here", 0, "v", c.id, results_of(10, given[3], third))
      eq({ results[1]:get(), results[3]:get(), results[2]:ready() }, { 11, 12, false })
      work(0, "2 here", 0, "v", c.id, results_of(20, given[3], given[5], third))
      eq({ results[1]:get(), results[2]:get(), results[3]:get() }, { 11, 22, 12 })
      eq({ #work(2, "2 here", 0), pool:stats().ready }, { 2, 0 }) -- the third one is no longer given
      co.sleep(0)
      eq({ called, pool:stats().outstanding }, { 3, 0 })
    ]]
  end)

  it("accepts no task and no result that was changed, or is at another place", function()
    ok [[
      local core = require "mpengine.core"
      local key, other = core.mac_key "a", core.mac_key "b"
      local sealed = core.envelope_seal(key, "place ", 12, "head", "call", "value", { 1, "x" })
      local function opened(k, place, name, bytes, ...) return core.envelope_open(k, place, name, bytes, ...) end
      eq(opened(key, "place ", "12", sealed), 34)
      eq(sealed:sub(34, 37), "head")
      eq({ core.decode_outside(sealed, 38) }, { true, { 1, "x" } })
      eq(opened(key, "place ", 12, "xx" .. sealed .. "yy", 3, #sealed + 2), 36)
      for i = 1, #sealed do
        for _, bit in ipairs{ 1, 128 } do
          local bad = sealed:sub(1, i - 1) .. string.char(sealed:byte(i) ~ bit) .. sealed:sub(i + 1)
          eq(opened(key, "place ", 12, bad), nil, i)
        end
        eq(opened(key, "place ", 12, sealed:sub(1, i - 1)), nil, i)
      end
      eq({ opened(key, "place ", 13, sealed) }, { nil, "its signature is wrong" })
      eq({ opened(key, "place2 ", 12, sealed) }, { nil, "its signature is wrong" })
      eq({ opened(other, "place ", 12, sealed) }, { nil, "its signature is wrong" })
      eq({ opened(nil, "place ", 12, sealed) }, { nil, "it is signed, and there is no key" })
      eq({ opened(key, "place ", 12, "0abc") }, { nil, "it is not signed" })
      local several = core.envelope_several(key, "place ", { "c 7", "seven", "c 8", "" }, 1, 2)
      local number, size, first = string.unpack("<I8I4", several)
      eq({ number, opened(key, "place ", "c 7", several, first, first + size - 1) }, { 7, first + 33 })
      eq(opened(key, "place ", "c 8", several, first, first + size - 1), nil)
      number, size, first = string.unpack("<I8I4", several, first + size)
      eq({ number, opened(key, "place ", "c 8", several, first, first + size - 1) }, { 8, #several + 1 })
    ]]
  end)

  it("takes no more tasks of all its queues than it has processes", function()
    ok([[
      local a, b = m:Pool{ queue = "a" }, m:Pool{ queue = "b" }
      pool = a
      local busy <close> = worker("--queue", "a", "--queue", "b", "--queue", "a", "-j1")
      local go = m:Event "go"
      local long = a:apply_async(jobs.await, { go })
      until_true(function() co.sleep(0.01) return a:stats().ready == 0 end)
      -- It is given nothing more, neither with its question nor by messages.
      local waiting = b:apply_async(jobs.sleep, { 0.01 })
      co.sleep(0.2)
      eq(b:stats().ready, 1)
      pool = b
      local free <close> = worker("--queue", "b", "-j1")
      eq({ waiting:get(20), long:ready() }, { 0.01, false })
      go:set()
      eq(long:get(20), true)
      free:kill "TERM"
      free:wait(10)
      -- Both queues have a turn.
      local order, results = {}, {}
      for i = 1, 8 do
        for name, pool in pairs{ a = a, b = b } do
          results[#results + 1] = pool:apply_async(jobs.sleep, { 0.05 }, { callback = function()
            order[#order + 1] = name
          end })
        end
      end
      for _, r in ipairs(results) do r:get(20) end
      local first = table.concat(order, "", 1, 8)
      eq({ #first:gsub("a", "") >= 2, #first:gsub("b", "") >= 2 }, { true, true })
      busy:kill "TERM"
      eq(busy:wait(10), 0)
    ]], { timeout = 60 })
  end)

  it("gives no room to tasks that are cancelled", function()
    ok [[
      local w <close> = worker("--lease", "60") -- it would ask again in a third of that
      local pool = mp.Manager(URL, { namespace = NAMESPACE, lease = 60 }):Pool()
      for i = 1, 4 do pool:apply_async(jobs.add, { i, i }, { delay = 0.05 }):cancel() end
      co.sleep(0.1)
      local r = pool:apply_async(jobs.add, { 1, 2 })
      eq(r:get(15), 3)
    ]]
  end)

  it("leaves no result behind when more end than go in one step", function()
    ok [[
      local w <close> = worker("--lease", "100") -- it would ask again in a third of that
      local own = mp.Manager(URL, { namespace = NAMESPACE, lease = 100 }):Pool()
      for round = 1, 3 do
        local results = {}
        for i = 1, 1500 do results[i] = own:apply_async(jobs.twice, { i }) end
        for i, r in ipairs(results) do eq(r:get(), 2 * i) end
      end
    ]]
  end)

  it("fails outstanding tasks when it is terminated", function()
    ok [[
      local r = pool:apply_async(jobs.add, { 1, 2 })
      pool:terminate()
      local _, err = pcall(r.get, r)
      eq({ err.kind, pool:join(5) }, { "terminated", true })
    ]]
  end)
end)

describe("mpengine worker", function()
  it("ends what runs on SIGTERM, takes no more, and exits with 0", function()
    ok [[
      local w = worker()
      local r = pool:apply_async(jobs.sleep, { 0.4 })
      co.sleep(0.1)
      w:kill "TERM"
      eq({ r:get(10), w:wait(10) }, { 0.4, 0 })
      eq(pool:stats().workers, 0)
    ]]
  end)

  it("goes on SIGTERM when there is no server, and says that it could not tell", function()
    local own = redis.start()
    support.ok(HEAD:format(server.dir, own.url, "s", support.command, server.dir) .. ([[
      local w = worker("--grace", "0.1")
      os.execute("kill -9 %d")
      w:kill "TERM"
      eq(w:wait(20), 1)
    ]]):format(own.pid), { timeout = 40 })
    redis.remove(own)
  end)

  it("gives back at the end of the grace what still runs", function()
    ok [[
      local w = worker("--grace", "0.2")
      local r = pool:apply_async(jobs.sleep, { 1 })
      co.sleep(0.1)
      w:kill "TERM"
      eq(w:wait(10), 0)
      local second <close> = worker()
      eq(r:get(20), 1)
    ]]
  end)

  it("runs only what it allows", function()
    ok [[
      local w <close> = worker("--allow", "jobs.a*")
      eq(pool:apply(jobs.add, { 1, 2 }), 3)
      matches(select(2, pcall(pool.apply, pool, jobs.twice, { 1 })), "the worker does not allow 'jobs.twice' (--allow)")
    ]]
  end)

  it("runs only what is signed with its key", function()
    ok [[
      local file, other = DIR .. "/key", DIR .. "/other"
      for name, text in pairs{ [file] = "the key", [other] = "another" } do
        local f = io.open(name, "w")
        f:write(text)
        f:close()
        os.execute("chmod 600 " .. name)
      end
      local w <close> = worker("--key-file", file)
      local function with(key) return mp.Manager(URL, { namespace = NAMESPACE, lease = 2, key_file = key }):Pool() end
      eq(with(file):apply(jobs.add, { 1, 2 }), 3)
      matches(select(2, pcall(function() with(other):apply(jobs.add, { 1, 2 }) end)), "the result is refused")
      os.execute("chmod 644 " .. file)
      raises("can be read by others", function() with(file) end)
      raises("is empty", function()
        io.open(other, "w"):close()
        with(other)
      end)
      raises("No such file", function() with(DIR .. "/absent") end)
    ]]
  end)

  it("lists the tasks that killed their workers, runs them again and drops them", function()
    ok [[
      local w <close> = worker()
      local function dead(...)
        local r = mp.subprocess.run{ COMMAND, "dead", ... }
        return r.status, r.stdout .. r.stderr
      end
      pcall(pool.apply, pool, jobs.exit, { 3 })
      local status, text = dead("list", "--namespace", NAMESPACE, URL)
      eq(status, 0)
      matches(text, "its process died  jobs.exit")
      status, text = dead("retry", "--namespace", NAMESPACE, URL)
      eq({ status, text }, { 0, "1 tasks\n" })
      until_true(function() co.sleep(0.01) return pool:stats().dead == 1 end)
      eq({ dead("drop", "--namespace", NAMESPACE, URL) }, { 0, "1 tasks\n" })
      eq({ pool:stats().dead, dead("nonsense") }, { 0, 2, select(2, dead("nonsense")) })
    ]]
  end)

  it("is shown with its queue by mpengine top, in plain lines", function()
    ok [[
      local w <close> = worker()
      local top = require "mpengine.remote.top"
      local c = require("mpengine.remote.client").of(m)
      local before = top.picture(c)
      for i = 1, 6 do pool:apply(jobs.add, { i, i }) end
      pcall(pool.apply, pool, jobs.bad, { 1 })
      pcall(pool.apply, pool, jobs.exit, { 3 })
      local picture = top.picture(c)
      local q, worker = picture.queues[1], picture.workers[1]
      eq({ q.name, q.ready, q.delayed, q.running, q.dead, q.workers, q.processes },
        { "default", 0, 0, 0, 1, 1, 2 })
      eq({ q.submitted, q.done, q.failed, q.crashed }, { 8, 6, 1, 1 })
      eq({ worker.queue, worker.processes, worker.is_alive, #worker.host > 0 }, { "default", 2, true, true })
      picture.at = before.at + 2 -- seconds
      local lines = top.lines(picture, before, "title")
      matches(lines[4], "3.0      0.5       0.5")
      for _, line in ipairs(lines) do assert(#line <= 80, line) end
      local r = mp.subprocess.run{ COMMAND, "top", "--namespace", NAMESPACE, "--interval", "0.1", URL }
      eq({ r.status, r.stdout:find("\27", 1, true) }, { 0 })
      matches(r.stdout, "socket?db=0 (" .. NAMESPACE .. ")  2 processes are heard of")
      matches(r.stdout, "works")
    ]]
  end)

  it("is shown by mpengine top as far as a terminal has room", function()
    ok [[
      for i = 10, 40 do
        local p = m:Pool{ queue = "queue" .. i }
        p:apply_async(jobs.add, { 1, 2 })
        until_true(function() return p:stats().ready == 1 end)
      end
    ]]
    local command = ("%s top --namespace spec%d %s"):format(support.command, spaces, server.url)
    terminal.run(command, function(t)
      local shown = t.screen("\nqueue10 ", "\nqueue28 ", "\n... and 14 lines more")
      assert.falsy(shown:find("queue29", 1, true))
      t.press "C-c"
      t.screen "status 130"
    end)
  end)

  it("says what is wrong with its arguments", function()
    ok [[
      local function said(...)
        local r, why = mp.subprocess.run{ COMMAND, "worker", ... }
        return r.status, r.stderr
      end
      local status, text = said()
      eq(status, 2)
      matches(text, "a URL is expected")
      status, text = said("--nonsense", URL)
      eq(status, 2)
      matches(text, "unrecognized option '--nonsense'")
      status, text = said("-j", "0", URL)
      matches(text, "'-j' needs a number of processes")
      status, text = said "http://x"
      eq(status, 1)
      matches(text, "'http://x' is no URL of a server")
      status, text = said("--help")
      eq(status, 0)
    ]]
  end)
end)
