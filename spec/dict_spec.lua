local support = require "spec.support"
local ok, misuse = support.ok, support.misuse
local mp = require "mpengine"

local function sorted(list)
  table.sort(list, function(a, b) return tostring(a) < tostring(b) end)
  return list
end

describe("a dict", function()
  it("is used as a table", function()
    local d = mp.Dict()
    assert.is_nil(d.a)
    d.a = 1
    d["b c"] = "two"
    d[3] = { 3 }
    d[true] = false
    assert.equal(1, d.a)
    assert.equal("two", d["b c"])
    assert.same({ 3 }, d[3])
    assert.is_false(d[true])
    assert.equal(4, #d)
    d.a = nil
    assert.is_nil(d.a)
    assert.equal(3, #d)
    d.never_there = nil
    assert.equal(3, #d)
  end)

  it("has the entries of the table it was made from", function()
    local t = { a = 1, [2] = "two", [2.5] = true }
    local d = mp.Dict(t)
    assert.same(t, d:copy())
    t.a = 9
    assert.equal(1, d.a)
  end)

  it("has 1 and 1.0 as one key, and strings apart from numbers", function()
    local d = mp.Dict()
    d[1] = "one"
    d[1.0] = "uno"
    d["1"] = "text"
    assert.equal(2, #d)
    assert.equal("uno", d[1])
    assert.equal("text", d["1"])
    for k in pairs(d) do
      if type(k) == "number" then assert.equal("integer", math.type(k)) end
    end
  end)

  it("has every number, boolean and string as a key", function()
    local d = mp.Dict()
    local keys = { 0, -1, math.mininteger, math.maxinteger, 0.5, -1e300, math.huge, -math.huge, true, false,
      "", "\0", "a\0b", ("k"):rep(100000), "get" }
    for i, k in ipairs(keys) do d:set(k, i) end
    assert.equal(#keys, #d)
    for i, k in ipairs(keys) do assert.equal(i, d:get(k)) end
    for _, k in ipairs(keys) do d:set(k, nil) end
    assert.equal(0, #d)
  end)

  it("has -0.0 and 0 as one key", function()
    local d = mp.Dict()
    d[0] = "a"
    d[-0.0] = "b"
    assert.equal(1, #d)
    assert.equal("b", d[0])
  end)

  it("takes no other key", function()
    misuse({ "key must be", "got mp.Event" }, function() mp.Dict()[mp.Event()] = 1 end)
    local d = mp.Dict()
    for _, k in ipairs{ {}, print, 0 / 0, coroutine.create(print) } do
      misuse({ "Dict", "key" }, function() d[k] = 1 end)
      misuse({ "Dict", "key" }, d.set, d, k, 1)
      misuse({ "key" }, d.setdefault, d, k, 1)
      misuse({ "key" }, d.incr, d, k)
    end
    misuse({ "Dict", "key" }, d.set, d, nil, 1)
    assert.equal(0, #d)
    misuse({ "Dict" }, mp.Dict, { [{}] = 1 })
  end)

  it("refuses a value that cannot be sent, and keeps the old one", function()
    local d, closed = mp.Dict{ a = 1 }, io.tmpfile()
    closed:close()
    misuse({ "coroutine" }, function() d.a = coroutine.create(print) end)
    misuse({ "coroutine" }, function() d.a = { { x = coroutine.create(print) } } end)
    misuse({ "closed file" }, function() d.a = closed end)
    misuse({ "coroutine" }, d.update, d, { b = 1, c = coroutine.create(print) })
    assert.same({ a = 1 }, d:copy())
  end)

  it("cannot have keys named as methods assigned by name: the error says how", function()
    local d = mp.Dict()
    for _, name in ipairs{ "get", "set", "has", "setdefault", "pop", "popitem", "keys", "values", "items", "update",
      "clear", "copy", "incr", "modify" } do
      misuse({ (':set("%s"'):format(name) }, function() d[name] = 1 end)
      assert.is_function(d[name])
      d:set(name, 5)
      assert.equal(5, d:get(name))
      assert.is_function(d[name])
    end
  end)

  it("gets with a default", function()
    local d = mp.Dict{ a = 1, f = false }
    assert.equal(1, d:get("a"))
    assert.is_nil(d:get("b"))
    assert.equal(2, d:get("b", 2))
    assert.is_false(d:get("f", true))
    assert.is_nil(d.b)
    assert.equal(1, select("#", d:get("b")))
  end)

  it("tells whether it has a key", function()
    local d = mp.Dict{ a = false }
    assert.is_true(d:has("a"))
    assert.is_false(d:has("b"))
  end)

  it("stores a default once", function()
    local d = mp.Dict()
    assert.equal(1, d:setdefault("a", 1))
    assert.equal(1, d:setdefault("a", 2))
    assert.equal(1, d.a)
  end)

  it("pops", function()
    local d = mp.Dict{ a = 1, b = 2 }
    assert.equal(1, d:pop("a"))
    assert.is_nil(d:pop("a"))
    assert.equal("none", d:pop("a", "none"))
    assert.equal(1, #d)
  end)

  it("pops any item, until it is empty", function()
    local d = mp.Dict{ a = 1, b = 2 }
    local seen = {}
    for _ = 1, 2 do
      local k, v = d:popitem()
      seen[k] = v
    end
    assert.same({ a = 1, b = 2 }, seen)
    assert.equal(0, #d)
    assert.is_nil((d:popitem()))
  end)

  it("lists its keys, values and items", function()
    local d = mp.Dict{ a = 1, b = 2 }
    assert.same({ "a", "b" }, sorted(d:keys()))
    assert.same({ 1, 2 }, sorted(d:values()))
    local items = d:items()
    table.sort(items, function(x, y) return x[1] < y[1] end)
    assert.same({ { "a", 1 }, { "b", 2 } }, items)
    assert.same({}, mp.Dict():keys())
  end)

  it("is updated and cleared", function()
    local d = mp.Dict{ a = 1, b = 2 }
    d:update{ b = 3, c = 4 }
    assert.same({ a = 1, b = 3, c = 4 }, d:copy())
    d:clear()
    assert.equal(0, #d)
    assert.same({}, d:copy())
  end)

  it("is updated by another dict, and by itself", function()
    local d, other = mp.Dict{ a = 1, [2] = "two" }, mp.Dict{ a = { 3 }, e = mp.Event() }
    d:update(other)
    assert.same({ 3 }, d.a)
    assert.equal(other.e, d.e)
    d:update(d)
    assert.equal(3, #d)
  end)

  it("is not changed by an update with an invalid key or value", function()
    local d = mp.Dict{ a = 1 }
    misuse({ "Dict:update", 'd["b"]', "coroutine" }, d.update, d, { a = 2, b = coroutine.create(print), c = 3 })
    misuse({ "Dict:update", "key must be", "table" }, d.update, d, { a = 2, [{}] = 3 })
    misuse({ "Dict:update", "table or a Dict" }, d.update, d, "a")
    misuse({ "Dict:update", "got mp.List" }, d.update, d, mp.List())
    assert.same({ a = 1 }, d:copy())
  end)

  it("shows all of an update or nothing to other processes", function()
    ok[[
      local d, stop = mp.Dict{ first = 0, last = 0 }, mp.Event()
      local p = P(function()
        local i = 0
        while not stop:is_set() do
          i = i + 1
          d:update{ first = i, last = i, s = ("x"):rep(i % 300) }
        end
      end)
      for _ = 1, 2000 do
        local t = d:copy()
        assert(t.first == t.last)
        local first = d.first
        assert(d.last >= first)
      end
      stop:set()
      all{ p }]]
  end)

  it("is traversed by pairs as it was at the beginning", function()
    local d = mp.Dict{ a = 1, b = 2, c = 3 }
    local seen = {}
    for k, v in pairs(d) do
      seen[k] = v
      d[k] = nil
      d[k .. k] = v
    end
    assert.same({ a = 1, b = 2, c = 3 }, seen)
    assert.same({ aa = 1, bb = 2, cc = 3 }, d:copy())
  end)

  it("increments", function()
    local d = mp.Dict()
    assert.equal(1, d:incr("n"))
    assert.equal(11, d:incr("n", 10))
    assert.equal(10, d:incr("n", -1))
    assert.equal(10.5, d:incr("n", 0.5))
    d.s = "text"
    misuse({ "incr", "number" }, d.incr, d, "s")
    misuse({ "incr", "number" }, d.incr, d, "n", "1")
    assert.equal("text", d.s)
    assert.equal(10.5, d.n)
  end)

  it("is modified by a function, atomically", function()
    local d = mp.Dict{ list = { 1 } }
    assert.same({ 1, 2 }, d:modify("list", function(l) l[#l + 1] = 2 return l end))
    assert.same({ 1, 2 }, d.list)
    assert.equal("new", d:modify("absent", function(v) assert(v == nil) return "new" end))
    assert.is_nil(d:modify("absent", function() return nil end))
    assert.is_false(d:has("absent"))
  end)

  it("stays unchanged when the function of modify raises", function()
    local d = mp.Dict{ a = 1 }
    local good, err = pcall(d.modify, d, "a", function() error({ mine = true }) end)
    assert.is_false(good)
    assert.same({ mine = true }, err)
    misuse({ "coroutine" }, d.modify, d, "a", function() return coroutine.create(print) end)
    assert.equal(1, d.a)
    d.a = 2
    assert.equal(2, d.a)
  end)

  it("holds no lock while the function of modify runs", function()
    local d = mp.Dict{ a = 1 }
    local calls = 0
    local new = d:modify("a", function(v)
      calls = calls + 1
      if calls == 1 then d.a = 10 end
      return v + 1
    end)
    assert.equal(11, new)
    assert.equal(2, calls)
    assert.equal(11, d.a)
  end)

  it("gives copies of its tables", function()
    local d = mp.Dict{ t = { 1 } }
    d.t[1] = 99
    assert.same({ 1 }, d.t)
    local mine = { 1 }
    d.m = mine
    mine[1] = 2
    assert.same({ 1 }, d.m)
  end)

  it("keeps shared objects shared", function()
    local d, lock, inner = mp.Dict(), mp.Lock(), mp.Dict()
    d.lock = lock
    d.nested = { inner = inner, list = { lock } }
    assert.is_true(d.lock == lock)
    assert.is_true(d.nested.list[1] == lock)
    d.nested.inner.x = 1
    assert.equal(1, inner.x)
    d.self = d
    assert.is_true(d.self == d)
  end)

  it("says what it is", function()
    local d = mp.Dict()
    assert.truthy(tostring(d):find("^mp%.Dict: 0x"), tostring(d))
    assert.equal("mp.Dict", getmetatable(d).__name)
    assert.is_false(d == mp.Dict())
  end)

  it("keeps values of any size", function()
    local d = mp.Dict()
    local big = ("x"):rep(1 << 20)
    d.big = big
    assert.equal(big, d.big)
    d.big = "small"
    assert.equal("small", d.big)
  end)

  it("grows to many entries and back", function()
    local d, n = mp.Dict(), 20000
    for i = 1, n do d[i] = i end
    assert.equal(n, #d)
    for i = 1, n, 97 do assert.equal(i, d[i]) end
    for i = 1, n do d[i] = nil end
    assert.equal(0, #d)
    assert.same({}, d:keys())
  end)

  it("is emptied by popitem in a time that grows with its size only", function()
    ok([[
      local d, n, t = mp.Dict(), 300000, {}
      for i = 1, n do t[i] = true end
      d:update(t)
      for _ = 1, n do t[d:popitem()] = nil end
      eq(next(t), nil)
      eq(#d, 0)]], { timeout = 20 })
  end)

  it("is filled by several processes", function()
    ok[[
      local d, list = mp.Dict(), {}
      for i = 1, 4 do
        list[i] = P(function()
          for n = 1, 500 do d[i * 1000 + n] = { n, "by", i } end
        end)
      end
      all(list)
      eq(#d, 2000)
      for i = 1, 4 do
        for n = 1, 500 do eq(d[i * 1000 + n], { n, "by", i }) end
      end]]
  end)

  it("loses no incr and no modify of several processes", function()
    ok([[
      local d, list = mp.Dict(), {}
      for i = 1, 4 do
        list[i] = P(function()
          for _ = 1, 1000 do
            d:incr("n")
            d:modify("t", function(t) t = t or { 0 } t[1] = t[1] + 1 return t end)
          end
        end)
      end
      all(list)
      eq(d.n, 4000)
      eq(d.t, { 4000 })]], { timeout = 40 })
  end)

  it("gives each item to one of the processes that pop", function()
    ok[[
      local d, taken, list = mp.Dict(), mp.Dict(), {}
      for i = 1, 500 do d[i] = true end
      for i = 1, 4 do
        list[i] = P(function()
          while true do
            local k = d:popitem()
            if k == nil then return end
            assert(taken:incr(k) == 1)
          end
        end)
      end
      all(list)
      eq(#taken, 500)
      eq(#d, 0)]]
  end)

  it("lets exactly one process set a default", function()
    ok[[
      local d, list, won = mp.Dict(), {}, mp.Value("i", 0)
      for i = 1, 5 do
        list[i] = P(function() if d:setdefault("leader", i) == i then won:add(1) end end)
      end
      all(list)
      eq(won.value, 1)]]
  end)

  it("is read whole while another process writes it", function()
    ok[[
      local d, stop = mp.Dict{ k = { 0, 0 } }, mp.Event()
      local p = P(function()
        local i = 0
        while not stop:is_set() do
          i = i + 1
          d.k = { i, i, i % 7 == 0 and ("x"):rep(i % 3000) or nil }
        end
      end)
      for _ = 1, 5000 do
        local v = d.k
        assert(v[1] == v[2])
      end
      stop:set()
      all{ p }]]
  end)
end)

describe("a manager", function()
  it("checks the receiver of its methods", function()
    local m = mp.Manager()
    for _, name in ipairs{ "dict", "Pool", "shutdown" } do misuse({ name, "mp.Manager" }, m[name], {}) end
    m:shutdown()
    assert.error_matches(function() m:Pool() end, "Pool: the manager is shut down", 1, true)
  end)

  it("makes shared objects", function()
    ok[[
      local m = mp.Manager()
      local d, q, lock, e = m:dict(), m:Queue(), m:Lock(), m:Event()
      local p = P(function() local _ <close> = lock:guard() d.a = 1 q:put("x") e:set() end)
      e:wait()
      eq(q:get(), "x")
      p:join()
      eq(d.a, 1)
      for _, name in ipairs{ "Lock", "RLock", "Semaphore", "Condition", "Event", "Queue" } do
        assert(m[name](m) ~= nil, name)
      end
      eq(m:Array("i", { 1, 2 }):totable(), { 1, 2 })
      eq(m:Value("i", 3).value, 3)
      m:shutdown()]]
  end)

  it("fills a dict from a table", function()
    assert.same({ a = 1 }, mp.Manager():dict{ a = 1 }:copy())
  end)

  it("needs no process of its own", function()
    local m = mp.Manager()
    m:dict()
    assert.equal(0, #mp.active_children())
    m:shutdown()
  end)

  it("makes lists and namespaces #later", function()
    ok[[
      local m = mp.Manager()
      local l, n = m:list{ 1 }, m:Namespace()
      P(function() l:append(2) n.x = 5 end):join()
      eq(l:copy(), { 1, 2 })
      eq(n.x, 5)
      eq(n.absent, nil)
      for _, name in ipairs{ "BoundedSemaphore", "JoinableQueue" } do assert(m[name](m, 1) ~= nil, name) end
      assert(m:Barrier(2) ~= nil)
      m:shutdown()]]
  end)
end)
