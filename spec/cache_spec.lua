local support = require "spec.support"
local ok, misuse = support.ok, support.misuse
local mp = require "mpengine"

local function after(seconds)
  local from = mp.now()
  while mp.now() < from + seconds do mp.sleep(seconds) end
end

describe("a cache", function()
  it("gives what was set, and nil for what was not", function()
    local c = mp.Cache{ size = "1M" }
    assert.is_nil(c:get "a")
    assert.is_true(c:set("a", { 1, { 2 } }))
    assert.same({ 1, { 2 } }, c:get "a")
    c:set("a", false)
    assert.is_false(c:get "a")
    assert.is_true(c:delete "a")
    assert.is_false(c:delete "a")
    assert.is_nil(c:get "a")
  end)

  it("has the keys of a dict", function()
    local c = mp.Cache(1 << 20)
    local keys = { 0, -1, math.maxinteger, 0.5, math.huge, true, false, "", "a\0b", ("k"):rep(100000), "get" }
    for i, k in ipairs(keys) do c:set(k, i) end
    for i, k in ipairs(keys) do assert.equal(i, c:get(k)) end
    c:set(1.0, "one")
    assert.equal("one", c:get(1))
    assert.is_nil(c:get "1")
    assert.equal(#keys + 1, #c:keys())
    assert.equal(3, #c:keys(3))
    assert.equal(0, #c:keys(0))
    for _, k in ipairs { {}, 0 / 0, print } do misuse({ "Cache:get", "key" }, c.get, c, k) end
    misuse({ "Cache:set", "key" }, c.set, c, nil, 1)
    misuse({ "Cache:keys", "number of keys" }, c.keys, c, -1)
  end)

  it("adds only what is absent, and replaces only what is there", function()
    local c = mp.Cache{ size = "1M" }
    assert.is_false(c:replace("k", 1))
    assert.is_true(c:add("k", 1))
    assert.is_false(c:add("k", 2))
    assert.is_true(c:replace("k", 3))
    assert.equal(3, c:get "k")
  end)

  it("refuses a nil, and a time to live of 0", function()
    local c = mp.Cache{ size = "1M", ttl = 10 }
    misuse({ "Cache:set", "nil" }, c.set, c, "a", nil)
    misuse({ "Cache:add", "nil" }, c.add, c, "a")
    for _, ttl in ipairs { 0, -1, 0 / 0, "1", {} } do
      misuse({ "Cache:set", "ttl" }, c.set, c, "a", 1, ttl)
      misuse({ "Cache:touch", "ttl" }, c.touch, c, "a", ttl)
      misuse({ "Cache", "ttl" }, mp.Cache, { size = "1M", ttl = ttl })
    end
    misuse({ "cannot send a coroutine" }, c.set, c, "a", coroutine.create(print))
    assert.is_nil(c:get "a")
  end)

  it("takes its size as a number of bytes or as a text", function()
    for size, bytes in pairs { ["64K"] = 65536, ["1M"] = 1 << 20, ["2MiB"] = 2 << 20, [100000] = 100000,
      ["8192"] = 8192, ["1m"] = 1 << 20 } do
      assert.equal(bytes, mp.Cache{ size = size }:stats().size)
    end
    for _, size in ipairs { 0, -1, 1.5, 1000, "", "M", "1Q", "1MM", {}, "-1M", true } do
      misuse({ "Cache", "size" }, mp.Cache, { size = size })
    end
    misuse({ "Cache", "unknown field 'bytes'" }, mp.Cache, { bytes = 1 })
    misuse({ "Cache", "shared memory" }, mp.Cache, { size = "100T" })
  end)

  it("forgets an item when its time is over, and not before", function()
    local c = mp.Cache{ size = "1M", ttl = 0.05 }
    local from = mp.now()
    c:set("short", 1)
    c:set("long", 1, 100)
    c:set("ever", 1, math.huge)
    local there = c:get "short"
    assert.is_true(there == 1 or mp.now() - from > 0.04)
    after(0.06)
    assert.is_nil(c:get "short")
    assert.is_nil(c:ttl "short")
    assert.is_false(c:touch "short")
    assert.is_false(c:delete "short")
    assert.is_true(c:ttl "long" > 90 and c:ttl "long" <= 100)
    assert.equal(math.huge, c:ttl "ever")
    assert.equal(2, c:stats().entries)
    assert.equal(1, c:stats().expired)
    assert.is_true(c:add("short", 2))
  end)

  it("gives an item a new time by touch, that of the cache when none is named", function()
    local c = mp.Cache{ size = "1M", ttl = 50 }
    c:set("k", 1, 1)
    assert.is_true(c:touch("k", 1000))
    assert.is_true(c:ttl "k" > 900)
    assert.is_true(c:touch "k")
    assert.is_true(c:ttl "k" <= 50)
    local never = mp.Cache{ size = "1M" }
    never:set("k", 1, 1)
    never:touch "k"
    assert.equal(math.huge, never:ttl "k")
  end)

  it("counts", function()
    local c = mp.Cache{ size = "1M" }
    misuse({ "Cache:incr", "key n is absent" }, c.incr, c, "n", 1)
    assert.equal(15, c:incr("n", 5, 10))
    assert.equal(16, c:incr("n", 1))
    assert.equal(17, c:incr("n"))
    assert.equal(17.5, c:incr("n", 0.5, 3))
    assert.equal(1.5, c:incr("f", 1, 0.5, 30))
    assert.is_true(c:ttl "f" <= 30)
    c:incr("f", 1, 0, 1000)
    assert.is_true(c:ttl "f" <= 30)
    c:set("text", "x")
    misuse({ "Cache:incr", "text", "number" }, c.incr, c, "text", 1)
    misuse({ "Cache:incr", "n must be a number" }, c.incr, c, "n", "1")
    misuse({ "Cache:incr", "init must be a number" }, c.incr, c, "n", 1, {})
  end)

  it("refuses a value larger than itself, and then changes nothing", function()
    local c = mp.Cache{ size = "256K" }
    for i = 1, 100 do c:set(i, i) end
    c:set("k", "old")
    local before = c:stats()
    misuse({ "Cache:set", "larger than the cache" }, c.set, c, "k", ("x"):rep(256 << 10))
    misuse({ "Cache:set", "larger than the cache" }, c.set, c, ("x"):rep(256 << 10), 1)
    assert.same(before, c:stats())
    assert.equal("old", c:get "k")
    local large = ("y"):rep(200 << 10)
    c:set("k", large)
    assert.equal(large, c:get "k")
  end)

  it("never takes more than its size, whatever the sizes of its items", function()
    local c = mp.Cache{ size = "2M" }
    local before = mp.stats().arena.used
    for _, size in ipairs { 100, 10240, 20, 5000, 200000, 100 } do
      local value = ("v"):rep(size)
      for i = 1, (6 << 20) // size do c:set(size .. ":" .. i, value) end
      local s = c:stats()
      assert.is_true(s.bytes <= s.size and s.bytes > s.size * 0.8, size .. ": " .. s.bytes)
      for _, k in ipairs(c:keys(50)) do assert.is_truthy(c:get(k)) end
    end
    assert.is_true(mp.stats().arena.used - before < 100000)
  end)

  it("keeps an item that is read, whatever is written beside it", function()
    local c = mp.Cache{ size = "256K" }
    c:set("hot", "item")
    for i = 1, 30000 do
      c:set(i, "of a scan")
      if i % 50 == 0 then assert.equal("item", c:get "hot") end
    end
    assert.is_true(c:stats().evictions > 20000)
  end)

  it("takes in what is read now, after all was read before", function()
    local c = mp.Cache{ size = "256K" }
    for i = 1, 1000 do c:set(i, ("x"):rep(100)) end
    for _ = 1, 5 do for i = 1, 1000 do c:get(i) end end
    local hits = 0
    for round = 1, 30 do
      for i = 1, 300 do
        if c:get("new" .. i) then hits = hits + 1 else c:set("new" .. i, ("y"):rep(100)) end
      end
      if round == 20 then hits = 0 end
    end
    assert.is_true(hits > 2400, tostring(hits))
  end)

  it("clears", function()
    local c = mp.Cache{ size = "1M" }
    for i = 1, 1000 do c:set(i, i) end
    c:clear()
    assert.equal(0, c:stats().entries)
    assert.equal(0, c:stats().bytes)
    assert.same({}, c:keys())
    assert.is_nil(c:get(1))
    c:set(1, 2)
    assert.equal(2, c:get(1))
  end)

  it("says in its text and its counts what it has", function()
    local c = mp.Cache{ size = "64K", name = "pages" }
    c:set("k", 1)
    c:get "k" c:get "k" c:get "none"
    assert.is_truthy(tostring(c):find("'pages' (1 entry, ", 1, true))
    local s = c:stats()
    assert.equal(2, s.hits)
    assert.equal(1, s.misses)
    assert.equal(1, s.entries)
    for _, name in ipairs { "evictions", "expired", "computed", "waited" } do assert.equal(0, s[name]) end
  end)

  it("is in the statistics of the program", function()
    ok[[
      local c = mp.Cache{ size = "1M" }
      for i = 1, 5 do c:set(i, i) end
      local found
      for _, o in ipairs(mp.stats().objects) do if o.kind == "Cache" then found = o end end
      eq(found.depth, 5)
      assert(found.bytes >= 1 << 20 and found.bytes < (1 << 20) + 1000)
      c:get(1)
      eq(mp.stats().objects[1].cache, c:stats())
      eq(c:stats().hits, 1)]]
  end)

  it("keeps the shared objects in its values, until they leave", function()
    ok[[
      local c = mp.Cache{ size = "64K" }
      c:set("q", { mp.Queue() })
      collectgarbage() collectgarbage()
      for i = 1, 200 do mp.Event() end
      collectgarbage() collectgarbage()
      local q = c:get("q")[1]
      q:put(5) eq(c:get("q")[1]:get(), 5)
      assert(c:get("q")[1] == q)
      q = nil
      local function queues()
        local n = 0
        for _, o in ipairs(mp.stats().objects) do n = n + (o.kind == "Queue" and 1 or 0) end
        return n
      end
      eq(queues(), 1)
      c:delete "q"
      until_true(function() collectgarbage() for i = 1, 100 do mp.Event() end return queues() == 0 end)]]
  end)

  it("is one for all processes", function()
    ok[[
      local c = mp.Cache{ size = "1M" }
      local list = {}
      for n = 1, 3 do
        list[n] = P(function()
          for i = 1, 2000 do
            c:set(n .. ":" .. i % 100, { n, i })
            c:incr("sum", 1, 0)
            local other = c:get((n % 3 + 1) .. ":" .. i % 100)
            assert(not other or other[1] == n % 3 + 1 and other[2] % 100 == i % 100)
          end
        end)
      end
      all(list)
      eq(c:get "sum", 6000)
      eq(c:stats().entries, 301)]]
  end)

  it("is as good as before when processes are killed in it", function()
    ok[[
      local c = mp.Cache{ size = "256K" }
      for round = 1, 30 do
        local began = mp.Event()
        local p = P(function()
          began:set()
          for i = 1, math.huge do
            c:set(i % 500, { i % 500, ("x"):rep(i % 1000) })
            if i % 7 == 0 then c:delete((i * 3) % 500) end
          end
        end)
        began:wait()
        mp.sleep(0.002)
        kill(p.pid) p:join()
        for i = 0, 499 do
          local v = c:get(i)
          assert(not v or v[1] == i)
        end
      end
      for _, k in ipairs(c:keys()) do c:delete(k) end
      eq(c:stats().entries, 0)
      eq(c:stats().bytes, 0)]]
  end)
end)
