local support = require "spec.support"
local ok = support.ok

-- Runs the code once with each kind of pool, as `pool`; co_pool says which it is.
local function both(code, opts)
  ok([[
    local function case(pool, co_pool) ]] .. code .. [[ end
    do local pool <close> = mp.Pool(2) case(pool, false) end
    case(mp.co.Pool(2), true)]], opts)
end

describe("what a map takes its items from", function()
  it("may be a shared list or array", function()
    both[[
      local function double(x) return x * 2 end
      local t = { 1, 2, 3 }
      for _, list in ipairs{ t, mp.List(t), mp.Array("i", t), mp.RawArray("d", t) } do
        local got = pool:map(double, list)
        eq(#got, 3) assert(got[3] == 6)
        got = {}
        for i, v in pool:imap(double, list) do got[i] = v end
        eq(#got, 3) assert(got[3] == 6)
      end
      raises({ "imap", "mp.Dict" }, pool.imap, pool, double, mp.Dict{})
      raises({ "map", "number" }, pool.map, pool, double, 5)]]
  end)

  it("may be the parts of a for loop, with its state and first value, and options after them", function()
    both[[
      local function all(...)
        local n = select("#", ...)
        return n == 1 and (...) or table.pack(...)
      end
      local function collect(...)
        local got = {}
        for i, v in pool:imap_unordered(all, ...) do got[i] = v end
        return got
      end
      eq(collect(ipairs{ 7, 8 }), { { 1, 7, n = 2 }, { 2, 8, n = 2 } })
      eq(collect(next, { a = 1 }), { { "a", 1, n = 2 } })
      eq(collect(pairs{ a = 1 }), { { "a", 1, n = 2 } })
      eq(collect(pairs(mp.Dict{ a = 1 })), { { "a", 1, n = 2 } })
      local step, state, first = ipairs{ 5, 6 }
      eq(collect(step, state, first, { chunksize = 2 }), { { 1, 5, n = 2 }, { 2, 6, n = 2 } })
      eq(collect(string.gmatch("k=v l=w", "(%w)=(%w)")), { { "k", "v", n = 2 }, { "l", "w", n = 2 } })
      local function count(_, _, c) return (c or 0) < 2 and (c or 0) + 1 or nil end
      eq(collect(setmetatable({}, { __call = count })), { 1, 2 })
      raises("step", collect, (ipairs{ 7 }))]]
  end)

  it("may be an imap, a queue's iterator, and lines whose file is closed in the end", function()
    both[[
      local function double(_, x) return x * 2 end
      local got = {}
      for i, v in pool:imap(double, pool:imap(function(x) return x end, { 1, 2, 3 })) do got[i] = v end
      eq(got, { 2, 4, 6 })
      local closed = 0
      local closing = setmetatable({}, { __close = function() closed = closed + 1 end })
      local function numbers(_, c) c = (c or 0) + 1 return c <= 3 and c or nil end
      local n = 0
      for _ in pool:imap(function(x) return x end, numbers, nil, nil, closing) do n = n + 1 end
      eq(n, 3) eq(closed, 1)
      for _ in pool:imap(function(x) return x end, numbers, nil, nil, closing, { ahead = 1 }) do break end
      eq(closed, 2)
      local failed = pcall(function()
        for _ in pool:imap(function(x) error(x) end, numbers, nil, nil, closing, { ahead = 1 }) do n = n + 1 end
      end)
      eq(failed, false) eq(closed, 3)]]
  end)

  it("is read while results arrive: each result may decide what comes next", function()
    both[[
      for _, name in ipairs{ "imap", "imap_unordered" } do
        local q, seen = mp.Queue(), 0
        q:put(1)
        for _, v in pool[name](pool, function(x) return x + 1 end, q:iter()) do
          seen = seen + 1
          if v == 6 then q:close() else q:put(v) end
        end
        eq(seen, 5)
      end]]
  end)

  it("has no more in flight than allowed, in order or not", function()
    both[[
      for _, name in ipairs{ "imap", "imap_unordered" } do
        for _, ahead in ipairs{ 1, 2, 5 } do
          local taken, given = 0, 0
          local function source() taken = taken + 1 return taken <= 40 and taken or nil end
          for _ in pool[name](pool, function(x) return x end, source, { ahead = ahead, chunksize = 3 }) do
            assert(taken - given <= ahead + 1, ahead .. ": " .. taken - given)
            given = given + 1
          end
          eq(given, 40)
        end
      end
      raises({ "ahead", "1 or more" }, pool.imap, pool, print, {}, { ahead = 0 })]]
  end)
end)

describe("an error of a map", function()
  it("of the source is raised after the results of what it gave, once", function()
    both[[
      for _, size in ipairs{ 1, 3, 100 } do
        local at, calls = 0, 0
        local function source()
          calls = calls + 1
          at = at + 1
          if at == 8 then error{ code = at } end
          return at
        end
        local step, got = pool:imap(function(x) return x end, source, { chunksize = size }), {}
        local good, err
        repeat
          local i, v
          good, i, v = pcall(step)
          if good then got[i] = v else err = i end
        until not good
        eq(got, { 1, 2, 3, 4, 5, 6, 7 })
        eq(err, { code = 8 })
        eq(step(), nil) eq(calls, 8)
      end]]
  end)

  it("names its item", function()
    both[[
      local function bad(x) if x == "two" or type(x) == "table" then error("no") end return x end
      local list = { "one", "two", "three" }
      for name, call in pairs{
        map = function() return pool:map(bad, list) end,
        map_async = function() return pool:map_async(bad, list):get() end,
        imap = function() for _ in pool:imap(bad, list) do end end,
        imap_unordered = function() for _ in pool:imap_unordered(bad, list) do end end,
        iterator = function() local i = 0 for _ in pool:imap(bad, function() i = i + 1 return list[i] end) do end end,
      } do
        local good, err = pcall(call)
        eq(good, false, name)
        eq(err.kind, "error", name) eq(err.index, 2, name) eq(err.item, "two", name)
        assert(tostring(err):find('item 2: "two"', 1, true), tostring(err))
      end
      local good, err = pcall(pool.starmap, pool, bad, { { 1 }, { {} }, { 3 } })
      eq(good, false) eq(err.index, 2) eq(err.item, { {} })
      good, err = pcall(pool.map, pool, function(x) if x == 3 then mp.sleep(60) end end, { 1, 3 }, { timeout = 0.05 })
      eq(good, false) eq(err.kind, "timeout") eq(err.index, 2) eq(err.item, 3)]]
  end)

  it("is the item's result with return_exceptions", function()
    both[[
      local function bad(x) if x % 2 == 0 then error{ code = x } end return x end
      local function check(got)
        eq(#got, 4) eq(got[1], 1) eq(got[3], 3)
        for _, i in ipairs{ 2, 4 } do
          eq(got[i].kind, "error") eq(got[i].value, { code = i }) eq(got[i].index, i)
        end
      end
      for _, size in ipairs{ 1, 4 } do
        local opts = { return_exceptions = true, chunksize = size }
        check(pool:map(bad, { 1, 2, 3, 4 }, opts))
        for _, name in ipairs{ "imap", "imap_unordered" } do
          local got = {}
          for i, v in pool[name](pool, bad, { 1, 2, 3, 4 }, opts) do got[i] = v end
          check(got)
        end
      end
      local got = pool:map(function(x) if x == 1 then mp.sleep(60) end return x end, { 1, 2 },
        { return_exceptions = true, timeout = 0.05 })
      eq(got[1].kind, "timeout") eq(got[2], 2)]]
  end)

  it("with return_exceptions is also a worker's death", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local got = pool:map(function(x) if x == 2 then os.exit(4) end return x end, { 1, 2, 3 },
        { return_exceptions = true })
      eq(got[1], 1) eq(got[3], 3) eq(got[2].kind, "worker_died") eq(got[2].exitcode, 4) eq(got[2].item, 2)]]
  end)
end)

describe("the results of an item", function()
  it("are all kept with pack, and without it the reason of a nil is the third value of imap", function()
    both[[
      local function f(x)
        if x == 1 then return "a", nil, "c" elseif x == 2 then return nil, "why" elseif x == 3 then return end
        return x, "second"
      end
      for _, size in ipairs{ 1, 4 } do
        local packed = { { "a", nil, "c", n = 3 }, { nil, "why", n = 2 }, { n = 0 }, { 4, "second", n = 2 } }
        eq(pool:map(f, { 1, 2, 3, 4 }, { pack = true, chunksize = size }), packed)
        for _, name in ipairs{ "imap", "imap_unordered" } do
          local got = {}
          for i, v in pool[name](pool, f, { 1, 2, 3, 4 }, { pack = true, chunksize = size }) do got[i] = v end
          eq(got, packed)
          got = {}
          for i, v, reason in pool[name](pool, f, { 1, 2, 3, 4 }, { chunksize = size }) do
            got[i] = { v, reason, n = 2 }
          end
          eq(got, { { "a", nil, n = 2 }, { nil, "why", n = 2 }, { n = 2 }, { 4, nil, n = 2 } })
        end
        local got = pool:map(f, { 1, 2, 3, 4 }, { chunksize = size })
        eq(got[1], "a") eq(got[2], nil) eq(got[3], nil) eq(got[4], 4)
      end]]
  end)
end)

describe("an option of a map", function()
  it("is honoured or refused", function()
    both[[
      eq(pool:map(function(x, s) return x + s end, { 1, 2 }, { shared = 10 }), { 11, 12 })
      eq(pool:starmap(function(s, x, y) return s + x * y end, { { 2, 3 } }, { shared = 10 }), { 16 })
      for i, v in pool:imap(function(x, s) return x + s end, { 1 }, { shared = 10, timeout = 5, retries = 1 }) do
        eq(i, 1) eq(v, 11)
      end
      local told
      pool:map_async(function(x) return x end, { 1 }, { callback = function(r) told = r end }):get()
      until_true(function() return told end)
      eq(told, { 1 })
      for _, call in ipairs{
        function() pool:map(print, {}, { ahead = 3 }) end,
        function() pool:imap(print, {}, { callback = print }) end,
        function() pool:map(print, {}, { unknown = 1 }) end,
        function() pool:map(print, {}, { retries = -1 }) end,
        function() pool:map(print, {}, { progress = 5 }) end,
        function() pool:imap(print, {}, { pack = 1 }) end,
        function() pool:apply_async(print, {}, { chunksize = 1 }) end,
      } do
        local good, err = pcall(call)
        eq(good, false)
        assert(tostring(err):find("option", 1, true) and tostring(err):find("script.lua", 1, true), tostring(err))
      end]]
  end)

  it("retries runs an item again that ran out of time", function()
    both[[
      local n = mp.Value("i")
      eq(pool:map(function(x) if x == 1 and n:add(1) < 3 then mp.sleep(60) end return x end, { 1, 2 },
        { timeout = 0.1, retries = 2 }), { 1, 2 })
      eq(n.value, 3)]]
  end)

  it("progress knows the length of a list, and ends with its last call", function()
    both[[
      for _, name in ipairs{ "imap", "imap_unordered", "map" } do
        local last
        local opts = { progress = function(...) last = { ... } end }
        if name == "map" then pool:map(print, { }, opts) pool:map(function() end, { 1, 2, 3 }, opts)
        else for _ in pool[name](pool, function() end, { 1, 2, 3 }, opts) do end end
        eq(last, { 3, 3, 0 }, name)
      end
      local i, calls = 0, {}
      local function source() i = i + 1 return i <= 3 and i or nil end
      local function progress(...) calls[#calls + 1] = table.pack(...) end
      for _ in pool:imap(function() end, source, { progress = progress }) do end
      eq(calls[1][2], nil)
      eq(calls[#calls], { 3, 3, 0, n = 3 })]]
  end)

  it("progress is called once at a time, even if its function waits", function()
    both[[
      local inside, last = 0, 0
      pool:map(function(x) return x end, { 1, 2, 3, 4, 5, 6, 7, 8 }, { chunksize = 1, progress = function(done)
        inside = inside + 1
        eq(inside, 1)
        assert(done > last)
        last = done
        mp.sleep(0.005)
        inside = inside - 1
      end })
      eq(last, 8) eq(inside, 0)]]
  end)

  it("progress draws a bar that ends with a newline, also of a loop that is left", function()
    for _, pool in ipairs{ "mp.Pool(2)", "mp.co.Pool(2)" } do
      local file = os.tmpname()
      support.write_file(file, ([[
        local mp = require "mpengine"
        local pool, i = %s, 0
        local function id(x) return x end
        local function source() i = i + 1 return i <= 2 and i or nil end
        for _ in pool:imap(id, { 1, 2, 3 }, { progress = true }) do end
        for _ in pool:imap(id, source, { progress = true }) do end
        for _ in pool:imap(id, { 1, 2, 3, 4 }, { progress = true, ahead = 1 }) do break end]]):format(pool))
      local text = support.shell(("script -qec '%s %s' /dev/null < /dev/null"):format(support.command, file))
      os.remove(file)
      local lines = {}
      for line in text:gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
      assert.equal(3, #lines, text)
      assert.truthy(lines[1]:find("] 3/3 ", 1, true), text)
      assert.truthy(lines[2]:find("] 2/2 ", 1, true), text)
      assert.truthy(lines[3]:find("] 1/4 ", 1, true), text)
      assert.truthy(text:find("\n$"), text)
    end
  end)
end)

describe("a task that is cancelled in a call of a pool", function()
  it("cancels what it asked for there", function()
    both[[
      local co = mp.co
      local function slow(started) started:set() mp.sleep(60) end
      for name, call in pairs{
        apply = function(e) pool:apply(slow, { e }) end,
        map = function(e) pool:map(slow, { e, e, e }) end,
        starmap = function(e) pool:starmap(slow, { { e }, { e } }) end,
        imap = function(e) for _ in pool:imap(slow, { e, e }) do end end,
        imap_unordered = function(e) for _ in pool:imap_unordered(slow, { e, e }) do end end,
        with_timeout = function(e) co.with_timeout(0.05, pool.map, pool, slow, { e, e }) end,
        scope = function(e)
          co.scope(function(s)
            s:spawn(function() pool:map(slow, { e, e }) end)
            e:wait()
            s:cancel()
          end)
        end,
      } do
        local e = mp.Event()
        local t = co.spawn(call, e)
        eq(e:wait(10), true, name)
        if name ~= "with_timeout" and name ~= "scope" then t:kill() end
        t:join()
        local from = now()
        eq(pool:map(function(x) return x end, { 1, 2 }), { 1, 2 }, name)
        assert(now() - from < 5, name)
        if co_pool then eq(pool:join(10), true, name) else
          until_true(function() return pool:stats().outstanding == 0 end)
        end
      end]]
  end)

  it("does not affect calls of other tasks, nor results that it only waited for", function()
    ok[[
      local pool <close> = mp.Pool(2)
      local go = mp.Event()
      local r = pool:apply_async(function() go:wait() return "done" end)
      local t = mp.co.spawn(function() return r:get() end)
      mp.co.sleep(0)
      t:kill()
      t:join()
      go:set()
      eq(r:get(10), "done")]]
  end)

  it("is also one that leaves the scope of a result", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local kept
      do
        local r <close> = pool:apply_async(function() mp.sleep(60) end)
        kept = r
      end
      local good, err = pcall(kept.get, kept, 10)
      eq(good, false) eq(err.kind, "cancelled")
      eq(pool:apply(function() return 1 end), 1)]]
  end)
end)

describe("a pool that is no longer referenced", function()
  it("ends its workers when it is collected, whatever was done with it", function()
    ok([[
      local function pids_of(pool)
        local list = {}
        for i, w in ipairs(pool:stats().workers) do list[i] = w.pid end
        return list
      end
      local function id(x) return x end
      for name, use in pairs{
        nothing = function() end,
        map = function(pool) pool:map(id, { 1, 2, 3 }) end,
        apply = function(pool) pool:apply(id, { 1 }) end,
        async = function(pool) pool:apply_async(id, { 1 }):get() end,
        imap = function(pool) for _ in pool:imap(id, { 1, 2, 3 }) do end end,
        left = function(pool) for _ in pool:imap(id, function() return 1 end) do break end end,
        waits = function(pool)
          local q = mp.Queue()
          q:put(1)
          for _ in pool:imap(id, q:iter()) do break end
        end,
        error = function(pool) pcall(pool.map, pool, function() error("no") end, { 1 }) end,
        timeout = function(pool) pool:apply_async(id, { 1 }, { timeout = 30 }):get() end,
        closure = function(pool) local x = { pool = 1 } pool:apply(function() return x end) end,
      } do
        local pids
        do
          local pool = mp.Pool(2)
          use(pool)
          pids = pids_of(pool)
        end
        until_true(function()
          collectgarbage()
          for _, pid in ipairs(pids) do if not dead(pid) then return false end end
          return true
        end)
        assert(#pids > 0, name)
      end]], { timeout = 40 })
  end)

  it("completes the earlier calls, and gives their results", function()
    ok[[
      local done = mp.Value("i")
      local function f(x) mp.sleep(0.02) done:add(1) return x end
      local function start() return mp.Pool(1):map_async(f, { 1, 2, 3 }) end
      start()
      local r = start()
      for _ = 1, 20 do collectgarbage() mp.sleep(0.01) end
      eq(r:get(10), { 1, 2, 3 })
      until_true(function() return done.value == 6 end)
      local step = mp.Pool(1):imap(function(x) return x end, { 1, 2 })
      collectgarbage() collectgarbage()
      eq(select(2, step()), 1)
      collectgarbage() collectgarbage()
      eq(select(2, step()), 2) eq(step(), nil)]]
  end)

  it("may be left to the end of the program, in every way it ends", function()
    for _, how in ipairs{ "", "os.exit(0, true)", "os.exit(0)", "collectgarbage()" } do
      ok([[
        local pool = mp.Pool(2)
        pool:map(function(x) return x end, { 1, 2, 3 })
        local other = pool:apply_async(function() mp.sleep(60) end)
        pool = nil ]] .. how)
    end
  end)
end)

describe("the end of a pool", function()
  it("is waited for no longer than the timeout", function()
    ok[[
      local pool = mp.Pool(1)
      local go = mp.Event()
      local r = pool:apply_async(function() go:wait() end)
      raises("open", pool.join, pool, 0)
      pool:close()
      local from = now()
      eq(table.pack(pool:join(0)), table.pack(nil, "timeout"))
      eq(table.pack(pool:join(0.05)), table.pack(nil, "timeout"))
      late(from, 0.05)
      raises({ "join", "timeout" }, pool.join, pool, -1)
      go:set()
      eq(pool:join(10), true) eq(pool:join(), true)
      r:get(0)]]
  end)
end)
