local support = require "spec.support"
local ok = support.ok

-- The address sanitizer keeps freed memory back.
local of_workers = support.read_file("/proc/self/maps"):find("libasan", 1, true) and pending or it

local METHODS = { "fork", "spawn", "forkserver" }

local function each_method(code, opts)
  for _, method in ipairs(METHODS) do
    ok(('mp.set_start_method("%s")\n'):format(method) .. code, opts)
  end
end

-- The most that a worker of the pool takes, in MiB; and used(), what shared memory holds.
local HELPERS = [[
local function worker(pool)
  local most = 0
  for _, w in ipairs(pool:stats().workers) do most = math.max(most, w.memory or 0) end
  return most / 2 ^ 20
end
local function used()
  collectgarbage() collectgarbage()
  return mp.stats().arena.used / 2 ^ 20
end
]]

describe("a pool keeps", function()
  of_workers("of values that change little more than the last one, however they are given", function()
    ok(HELPERS .. [[
      local function model(n)
        local t = {}
        for i = 1, 40000 do t[i] = n + i * 0.5 end
        return t
      end
      for name, round in pairs{
        shared = function(pool, m) pool:map(function(k, t) return t[k] end, { 1, 2, 3, 4 }, { shared = m }) end,
        upvalue = function(pool, m) pool:map(function(k) return m[k] end, { 1, 2, 3, 4 }) end,
        call = function(pool, m) pool:apply(function() return m[1] end) end,
        imap = function(pool, m) for _ in pool:imap(function(k) return m[k] end, { 1, 2 }) do end end,
        left = function(pool, m) for _ in pool:imap(function(k) return m[k] end, { 1, 2 }) do break end end,
      } do
        local pool <close> = mp.Pool(2)
        for n = 1, 15 do round(pool, model(n)) end
        local before_worker, before = worker(pool), used()
        for n = 16, 75 do round(pool, model(n)) end
        local grown = worker(pool) - before_worker
        assert(grown < 15, name .. ": a worker grew by " .. grown)
        assert(used() - before < 10, name .. ": shared memory grew from " .. before .. " to " .. used())
      end]], { timeout = 60 })
  end)

  it("of shared objects in such values no more than a few", function()
    ok(HELPERS .. [[
      local pool <close> = mp.Pool(2)
      local bytes = ("x"):rep(2 << 20)
      local before
      for n = 1, 60 do
        local a, d = mp.Array("c", bytes), mp.Dict{ x = bytes }
        eq(pool:map(function(i) return #a:string(1, i) end, { 1, 2 }), { 1, 2 })
        eq(pool:map(function(i, s) return #s.x + i end, { 1 }, { shared = d }), { #bytes + 1 })
        if n == 20 then before = used() end
      end
      assert(used() - before < 40, ("from %s to %s"):format(before, used()))]], { timeout = 60 })
  end)

  it("values that are still needed, even if thousands of others follow", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local function adder(n) return function(x) return x + n end end
      local step = pool:imap(adder(1000), { 1, 2, 3, 4 }, { ahead = 1, shared = nil })
      eq(select(2, step()), 1001)
      local go, first = mp.Event(), {}
      local held = pool:apply_async(function() go:wait() return "held" end)
      for i = 1, 3000 do first[i] = pool:apply_async(adder(i), { 1 }) end
      go:set()
      for i = 1, 3000 do eq(first[i]:get(20), 1 + i) end
      eq(held:get(20), "held")
      for i = 1, 600 do eq(pool:apply(adder(i), { 2 }), 2 + i) end
      eq(select(2, step()), 1002) eq(select(2, step()), 1003) eq(select(2, step()), 1004) eq(step(), nil)
      local late = pool:map_async(adder(5), { 1, 2 })
      eq(late:get(20), { 6, 7 })]]
  end)
end)

describe("a worker without work", function()
  of_workers("has released the objects of items that have ended", function()
    each_method(HELPERS .. [[
      local pool <close> = mp.Pool(1)
      pool:apply(function() end)
      local before = worker(pool)
      pool:apply(function(s) return #s end, { ("x"):rep(60 << 20) })
      pool:map(function(t) return #t end, { { ("y"):rep(20 << 20) } }, { chunksize = 1 })
      until_true(function() return worker(pool) - before < 30 end)]])
  end)

  it("has closed the pipe ends that came as argument, item, upvalue or shared value", function()
    each_method[[
      local pool <close> = mp.Pool(1)
      for name, give in pairs{
        argument = function(e) return pool:apply(function(x) x:send "a" end, { e }) end,
        item = function(e) return pool:map(function(x) x[1]:send "a" end, { { e } }) end,
        upvalue = function(e) return pool:apply(function() e:send "a" end) end,
        shared = function(e) return pool:map(function(_, x) x:send "a" end, { 1 }, { shared = e }) end,
        result = function(e) return pool:apply(function(x) x:send "a" return x end, { e }) end,
        failed = function(e) return pcall(pool.apply, pool, function(x) x:send "a" error(x) end, { e }) end,
      } do
        local a, b = mp.Pipe()
        local kept = give(b)
        b:close()
        if type(kept) == "userdata" then kept:close() end
        kept = nil
        collectgarbage() collectgarbage()
        eq(a:recv(5), "a", name)
        eq(select(2, a:recv(5)), "closed", name)
      end]]
  end)

  it("keeps what the script keeps there", function()
    ok[[
      local pool <close> = mp.Pool{ processes = 1, initializer = function(a) kept = a end,
        initargs = { mp.Array("i", { 5 }) } }
      eq(pool:apply(function() return kept[1] end), 5)
      for i = 1, 5 do pool:apply(function(a) last = a end, { mp.Array("i", { i }) }) mp.sleep(0.02) end
      eq(pool:apply(function() return last[1] end), 5)
      eq(pool:apply(function() return kept[1] end), 5)]]
  end)
end)

describe("want of memory where results are received", function()
  local HEAD = [[
    local core = require "mpengine.core"
    local receive, fails = core.pool_receive, {}
    function core.pool_receive(queue, tasks, timeout)
      local kind = timeout and "drain" or "wait"
      if fails[kind] then
        fails[kind] = nil
        error("out of memory", 0)
      end
      return receive(queue, tasks, timeout)
    end
    local pool <close> = mp.Pool(2)
    local function double(x) return 2 * x end
    eq(pool:apply(double, { 1 }), 2)
  ]]

  it("fails the calls that are outstanding, and the pool goes on", function()
    ok(HEAD .. [[
      local held = mp.Event()
      local r = pool:apply_async(function() held:wait() end)
      fails.wait = true
      eq(pool:apply(double, { 1 }), 2) -- the wait that had begun
      local good, err = pcall(r.get, r, 10)
      eq({ good, err.kind, err.message }, { false, "error", "results cannot be received: out of memory" })
      held:set()
      eq(pool:map(double, { 1, 2, 3 }), { 2, 4, 6 })
      until_true(function() return pool:stats().outstanding == 0 end)]])
  end)

  it("is told to the calls, not to the one that took it", function()
    ok(HEAD .. [[
      fails.drain = true
      local results = {}
      for i = 1, 500 do results[i] = pool:apply_async(double, { i }) end
      local failed = 0
      for i = 1, 500 do
        local well, v = pcall(results[i].get, results[i], 10)
        if well then eq(v, 2 * i) else
          failed = failed + 1
          eq(v.message, "results cannot be received: out of memory")
        end
      end
      eq({ fails.drain, failed > 0 }, { nil, true })
      eq(pool:map(double, { 1, 2, 3 }), { 2, 4, 6 })]])
  end)
end)
