-- Managers of a URL over a bad line: connections that are cut in the middle of replies, half closed, silent.
local support = require "spec.support"
local redis = require "spec.support.redis"

local server

setup(function()
  server = redis.start()
  support.write_file(server.dir .. "/jobs.lua", [[
    local jobs = {}
    -- Says in a file that it ran.
    function jobs.note(path, n)
      local f = io.open(path, "a")
      f:write(n, "\n")
      f:close()
      return n
    end
    function jobs.sleep(s) require "mpengine".sleep(s) return s end
    return jobs
  ]])
end)
teardown(function() redis.remove(server) end)

local HEAD = [[
local co = mp.co
local DIR, URL, NAMESPACE, COMMAND = %q, %q, %q, %q
]] .. redis.LINE .. [[
local m = mp.Manager(LINE, { namespace = NAMESPACE, lease = 2 })
local sure = mp.Manager(URL, { namespace = NAMESPACE, lease = 2 }) -- without the proxy
local function worker(url, ...)
  local p = mp.subprocess.Popen{ "env", "LUA_PATH=" .. DIR .. "/?.lua;;", COMMAND, "worker", "--namespace", NAMESPACE,
    "--lease", "2", "-j", "2", "--allow", "*", url, stderr = "null", ... }
  until_true(function() co.sleep(0.01) return sure:Pool():stats().workers > 0 end)
  return p
end
-- How often each number is in a file.
local function counts(path)
  local n = {}
  for word in io.lines(path) do n[word] = (n[word] or 0) + 1 end
  return n
end
-- Names of the namespace's keys.
local function keys(pattern)
  local r = mp.subprocess.run{ "redis-cli", "-s", DIR .. "/socket", "--raw", "KEYS",
    "mp:{" .. NAMESPACE .. "}:" .. pattern }
  local list = {}
  for name in r.stdout:gmatch "[^\n]+" do list[#list + 1] = name end
  return list
end
-- The size of a hash.
local function hash_size(name)
  local r = mp.subprocess.run{ "redis-cli", "-s", DIR .. "/socket", "HLEN", "mp:{" .. NAMESPACE .. "}:" .. name }
  return tonumber(r.stdout)
end
]]

local spaces = 0

local function ok(code, opts)
  spaces = spaces + 1
  return support.ok(HEAD:format(server.dir, server.url, "line" .. spaces, support.command) .. code, opts)
end

describe("over a bad line", function()
  it("a worker loses no task and runs none twice", function()
    ok([[
      local w = worker(LINE)
      line "every 3000"
      local pool, results, path = sure:Pool(), {}, DIR .. "/ran_worker"
      for i = 1, 400 do
        results[i] = pool:apply_async("jobs.note", { path, i })
        if i % 20 == 0 then co.sleep(0.05) end
      end
      for i, r in ipairs(results) do eq(r:get(60), i) end
      for i = 1, 400 do eq(counts(path)[tostring(i)], 1, "task " .. i) end
      line "calm"
      w:kill "TERM"
      eq(w:wait(20), 0)
      eq(keys "runs:*", {})
    ]], { timeout = 120 })
  end)

  it("a submitter loses no task, gets each result once and has none run twice", function()
    ok([[
      local w = worker(URL)
      line "every 3000"
      local pool, path, called = m:Pool(), DIR .. "/ran_submitter", {}
      local results = {}
      for i = 1, 400 do
        results[i] = pool:apply_async("jobs.note", { path, i }, { callback = function(n)
          called[n] = (called[n] or 0) + 1
        end })
        if i % 20 == 0 then co.sleep(0.05) end
      end
      for i, r in ipairs(results) do eq(r:get(60), i) end
      co.sleep(0)
      local n = counts(path)
      for i = 1, 400 do eq({ n[tostring(i)], called[i] }, { 1, 1 }, "task " .. i) end
      w:kill()
    ]], { timeout = 120 })
  end)

  it("tasks that are cancelled before they have arrived are not submitted", function()
    ok([[
      local pool, path = m:Pool(), DIR .. "/ran_cancelled"
      local first = pool:apply_async("jobs.note", { path, 0 })
      until_true(function() return pool:stats().ready == 1 end)
      local once = keys "once:*"[1]:match ":(once:.*)$"
      local function steps() return hash_size(once) end
      local function submitted()
        local r = mp.subprocess.run{ "redis-cli", "-s", DIR .. "/socket", "HGET", "mp:{" .. NAMESPACE .. "}:counts",
          "default submitted" }
        return tonumber(r.stdout)
      end
      line "hold"
      local results, cancels = {}, {}
      for i = 1, 5 do results[i] = pool:apply_async("jobs.note", { path, i }) end
      co.sleep(0) -- the first of them is a step, the others one more
      for i = 1, 5 do
        if i ~= 3 then cancels[i] = co.spawn(function() return results[i]:cancel() end) end
      end
      co.sleep(0)
      line "cut"
      line "calm"
      for _, t in pairs(cancels) do eq(t:get(20), true) end
      until_true(function() co.sleep(0.01) return steps() == 3 end)
      eq(submitted(), 2)
      local w = worker(URL)
      eq({ first:get(20), results[3]:get(20) }, { 0, 3 })
      eq(counts(path), { ["0"] = 1, ["3"] = 1 })
      w:kill()
    ]], { timeout = 60 })
  end)

  it("locks exclude, and neither they nor semaphores lose anything", function()
    support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
    ok([[
      local l, s, d = m:Lock "l", m:Semaphore("s", 2), sure:dict "d"
      d.n = 0
      line "every 2000"
      local tasks, inside = {}, 0
      for t = 1, 4 do
        tasks[t] = co.spawn(function()
          for _ = 1, 50 do
            l:acquire()
            inside = inside + 1
            eq(inside, 1)
            d.n = d.n + 1
            inside = inside - 1
            l:release()
            s:acquire()
            s:release()
          end
        end)
      end
      for _, t in ipairs(tasks) do t:get(100) end
      line "calm"
      eq({ d.n, l:locked(), s:get_value() }, { 200, false, 2 })
    ]], { timeout = 120 })
  end)

  it("a queue keeps its items in order, and loses and doubles none", function()
    ok([[
      local q, taken = m:Queue("q", 10), {}
      line "every 1500"
      local getter = co.spawn(function()
        for v in q:iter() do taken[#taken + 1] = v end
      end)
      local wanted = {}
      for i = 1, 400 do
        eq(q:put(i), true)
        wanted[i] = i
      end
      q:close()
      getter:get(60)
      eq(taken, wanted)
      line "calm"
      until_true(function() co.sleep(0.02) return hash_size "queueh:q" == 0 end)
    ]], { timeout = 120 })
  end)

  it("a line that is half closed, slow or silent costs time only", function()
    ok([[
      local d, q = m:dict "d", m:Queue "q"
      d.n = 1
      local t = co.spawn(function() return q:get() end)
      line "half"
      eq(d.n, 1)
      line "delay 50"
      eq(d.n, 1)
      line "hold"
      local read = co.spawn(function() return d.n end)
      co.sleep(0.3)
      eq(read:ready(), false)
      line "calm"
      eq(read:get(10), 1)
      q:put "item"
      eq(t:get(10), "item")
    ]], { timeout = 60 })
  end)
end)

describe("a connection that is given up", function()
  it("lets what was written and has not arrived never arrive", function()
    support.ok [[
      local uv = require "luv"
      local ends, listener = {}, uv.new_tcp()
      listener:bind("127.0.0.1", 0)
      listener:listen(8, function()
        local client = uv.new_tcp()
        listener:accept(client)
        client:read_start(function(err, bytes)
          if not bytes then
            ends[#ends + 1] = err or "closed"
            client:close()
          elseif bytes:find "HGET" then
            client:write "no reply\r\n"
          else
            client:write(bytes:find "PING" and "+PONG\r\n" or "+OK\r\n")
          end
        end)
      end)
      local m = mp.Manager("redis://127.0.0.1:" .. listener:getsockname().port, { timeout = 0.5 })
      raises("", function() return m:dict("d").x end)
      listener:close()
      assert(#ends > 0)
      for _, why in ipairs(ends) do eq(why:match "^%u+", "ECONNRESET") end
    ]]
  end)
end)

describe("a storm", function()
  for _, mode in ipairs{ "always", "everysec", "cut" } do
    it("leaves all accounts right with a file that is: " .. mode, function()
      local r = support.run(nil, { file = "spec/chaos/redis.lua", args = { "3", "7", mode }, timeout = 120 })
      assert.equal(0, r.status, r.stdout .. r.stderr)
      assert.truthy(r.stdout:find("all accounts are right", 1, true))
    end)
  end
end)

describe("what is given to a task", function()
  it("is given back when the task is killed while it asks", function()
    support.since("5.4.3", "lets a wait in a close handler end only after those that began later")
    ok([[
      local l, s, q, r = m:Lock "l", m:Semaphore("s", 1), m:Queue "q", m:RateLimiter("r", { rate = 1000, burst = 1 })
      q:put(1)
      local asks = {
        function() return l:acquire() end, function() return s:acquire() end, function() return q:get() end,
        function() return r:acquire() end,
      }
      eq(r:try(), true)
      for _, ask in ipairs(asks) do
        line "delay 100"
        local t = co.spawn(ask)
        co.sleep(0.05) -- the server has given it, and its reply is on its way
        t:kill()
        line "calm"
      end
      local other = mp.Manager(LINE, { namespace = NAMESPACE, lease = 2.5 }) -- another client of the process
      eq({ other:Lock "l":acquire(5), other:Semaphore "s":acquire(5), other:Queue "q":get(5) }, { true, true, 1 })
      eq(other:RateLimiter "r":acquire(1, 5), true)
    ]], { timeout = 60 })
  end)

  it("is given back when the server comes back after the call has failed", function()
    ok([[
      local short = mp.Manager(LINE, { namespace = NAMESPACE, lease = 2, timeout = 1 })
      local l, q = short:Lock "l", short:Queue "q"
      local function answers() return (pcall(q.qsize, q)) end
      sure:Queue "q":put(1)
      for _, ask in ipairs{ function() return l:acquire() end, function() return q:get() end } do
        until_true(answers)
        line "delay 1500"
        eq(select(2, pcall(ask)).kind, "disconnected")
        line "calm"
      end
      eq({ sure:Lock "l":acquire(10), sure:Queue "q":get(10) }, { true, 1 })
      sure:Lock "l":release()
      until_true(function() return (pcall(l.acquire, l)) end)
      line "hold"
      eq(select(2, pcall(l.release, l)).kind, "disconnected")
      line "calm"
      eq(sure:Lock "l":acquire(10), true)
    ]], { timeout = 60 })
  end)
end)

describe("keys of the server", function()
  it("do not grow with what is done", function()
    ok([[
      local blocked = co.spawn(function() m:Queue "other":get() end)
      local q, b, c = m:Queue "q", m:Barrier("b", 2), m:Cache("c", { size = "1M" })
      for i = 1, 300 do
        q:put(i)
        q:get()
      end
      for _ = 1, 20 do
        local t = co.spawn(function() return b:wait() end)
        b:wait()
        t:get(10)
      end
      co.sleep(0.1)
      eq(hash_size "bard:b" <= 1, true)
      for _, name in ipairs(keys "once:*") do eq(hash_size(name:match ":(once:.*)$") <= 2, true) end
      eq(hash_size "queueh:q" <= 1, true)
      for i = 1, 20 do c:fetch("key " .. i, function() return i end) end
      for _, name in ipairs(keys "lock:cache*") do
        local r = mp.subprocess.run{ "redis-cli", "-s", DIR .. "/socket", "PTTL", name }
        eq(tonumber(r.stdout) > 0, true)
      end
    ]], { timeout = 60 })
  end)

  it("may have more items than go in one command of before", function()
    ok [[
      local list, entries = {}, {}
      for i = 1, 9000 do list[i], entries["k" .. i] = 9001 - i, i end
      local l, d = m:list("l", list), m:dict "d"
      d:update(entries)
      l:sort()
      l:extend(list)
      eq({ #l, l[1], l[9000], l[9001], #d }, { 18000, 1, 9000, 9000, 9000 })
      local pool, results = m:Pool(), {}
      for i = 1, 5000 do results[i] = pool:apply_async("jobs.sleep", { 1 }) end
      pool:terminate()
      eq({ pool:stats().outstanding, keys "tasks:*" }, { 0, {} })
    ]]
  end)
end)
