local support = require "spec.support"
local ok = support.ok

describe("a value that is sent", function()
  it("arrives unchanged: nil, booleans, numbers, strings", function()
    ok[[
      local q, back = mp.Queue(), mp.Queue()
      local p = P(function() for v in q:iter() do back:put(v) end end)
      for _, v in ipairs{ true, false, 0, -1, math.mininteger, math.maxinteger, 0.0, 1.0, 0.1, -1e-320, math.huge,
        -math.huge, 2 ^ 53, "", "\0", "a\0b", "\xff\xfe", ("long"):rep(10000) } do
        q:put(v)
        eq(back:get(), v)
      end
      q:put(0/0)
      local nan = back:get()
      assert(nan ~= nan and math.type(nan) == "float")
      q:put(-0.0)
      eq(1 / back:get(), -math.huge)
      q:close()
      p:join()]]
  end)

  it("may be a table with an array part, a hash part and holes", function()
    ok[[
      local q = mp.Queue()
      for _, t in ipairs{ {}, { 1, 2, 3 }, { a = 1, b = { c = 2 } }, { 1, nil, 3 }, { [1.5] = "x", [true] = "y",
        [-1] = "z", [0] = 0 }, { { { {} } } }, { [{ 1 }] = 1 } } do
        q:put(t)
        local got = q:get()
        if next(t) and type(next(t)) == "table" then
          eq(next(got)[1], 1)
        else
          eq(got, t)
        end
      end]]
  end)

  it("keeps shared tables shared and cycles closed", function()
    ok[[
      local q = mp.Queue()
      local s = { "shared" }
      local t = { a = s, b = s, list = { s } }
      t.self = t
      t[t] = t
      q:put(t)
      local u = q:get()
      assert(u ~= t and u.a ~= s)
      assert(u.a == u.b and u.a == u.list[1])
      assert(u.self == u and u[u] == u)
      eq(u.a[1], "shared")]]
  end)

  it("may be nested as deep as memory allows, or says that it is too deep", function()
    ok([[
      local q = mp.Queue()
      local t = {}
      for _ = 1, 100000 do t = { t } end
      local good, err = pcall(q.put, q, t)
      if good then
        local u, depth = q:get(), 0
        while u[1] do u, depth = u[1], depth + 1 end
        eq(depth, 100000)
      else
        assert(tostring(err):find("deep", 1, true), tostring(err))
        eq(q:qsize(), 0)
      end
      local f = function() end
      for _ = 1, 100000 do
        local inner = f
        f = function() return inner end
      end
      good, err = pcall(q.put, q, f)
      assert(good or tostring(err):find("deep", 1, true), tostring(err))]], { timeout = 60 })
  end)

  it("may be a table of a hundred thousand elements", function()
    ok([[
      local q, t = mp.Queue(), {}
      for i = 1, 100000 do t[i] = { i, tostring(i) } end
      q:put(t)
      local u = q:get()
      eq(#u, 100000)
      for i = 1, 100000, 997 do eq(u[i], { i, tostring(i) }) end]], { timeout = 40 })
  end)
end)

describe("a function that is sent", function()
  it("has copies of its upvalues", function()
    ok[[
      local q, n = mp.Queue(), 1
      local function f() n = n + 1 return n end
      q:put(f)
      n = 10
      local g = q:get()
      eq(g(), 2) eq(g(), 3)
      eq(n, 10)]]
  end)

  it("still shares an upvalue with another function", function()
    ok[[
      local q, n = mp.Queue(), 0
      q:put{ inc = function() n = n + 1 end, get = function() return n end }
      local t = q:get()
      t.inc() t.inc()
      eq(t.get(), 2)
      eq(n, 0)
      local function make()
        local x = 0
        return function() x = x + 1 return x end
      end
      q:put{ make(), make() }
      local u = q:get()
      u[1]() u[1]()
      eq(u[2](), 1)]]
  end)

  it("may be recursive, and refer to the table that holds it", function()
    ok[[
      local q = mp.Queue()
      local function fact(n) return n <= 1 and 1 or n * fact(n - 1) end
      q:put(fact)
      eq(q:get()(10), 3628800)
      local obj = { n = 5 }
      function obj.get() return obj.n end
      q:put(obj)
      local u = q:get()
      u.n = 6
      eq(u.get(), 6)
      local even, odd
      function even(n) return n == 0 or odd(n - 1) end
      function odd(n) return n ~= 0 and even(n - 1) end
      q:put(even)
      eq(q:get()(10), true)]]
  end)

  it("sees the globals of the process where it arrives", function()
    ok[[
      local q, back = mp.Queue(), mp.Queue()
      place = "parent"
      local ready = mp.Event()
      local p = P(function()
        place = "child"
        ready:set()
        local f = q:get()
        back:put(f())
        back:put(place)
      end)
      ready:wait()
      q:put(function() local was = place place = "changed" return was end)
      eq(back:get(), "child")
      eq(back:get(), "changed")
      eq(place, "parent")
      p:join()]]
  end)

  it("keeps its lines for tracebacks", function()
    ok[[
      local q = mp.Queue()
      q:put(function()
        error("here")
      end)
      local f = q:get()
      raises("script.lua:3: here", f)
      local info = debug.getinfo(f, "SL")
      eq(info.linedefined, 2) eq(info.lastlinedefined, 4)
      eq(info.source:sub(1, 1), "@")
      eq(info.activelines[3], true)]]
  end)

  it("has its varargs, its constants and its inner functions", function()
    ok[[
      local q = mp.Queue()
      q:put(function(...)
        local t = { ... }
        local function sum(i) return i > #t and 0 or t[i] + sum(i + 1) end
        return sum(1), "const", 1.5, select("#", ...)
      end)
      eq(table.pack(q:get()(1, 2, 3)), table.pack(6, "const", 1.5, 3))]]
  end)

  it("of a module is sent by name", function()
    ok[[
      local q = mp.Queue()
      for _, f in ipairs{ string.format, print, table.concat, math.floor, mp.Lock, coroutine.wrap, pcall } do
        q:put(f)
        assert(q:get() == f)
      end
      for _, m in ipairs{ string, table, mp, mp.co, _G } do
        q:put(m)
        assert(q:get() == m)
      end
      package.preload["spec.a_module"] = function()
        local M = { count = 0 }
        function M.bump() M.count = M.count + 1 return M.count end
        return M
      end
      local m = require "spec.a_module"
      q:put{ m, m.bump }
      local u = q:get()
      assert(u[1] == m and u[2] == m.bump)]]
  end)
end)

describe("a shared object that is sent", function()
  it("arrives as the same object: as argument, item, dict value and upvalue, nested", function()
    ok[[
      local q = mp.Queue()
      local objects = { mp.Lock(), mp.RLock(), mp.Semaphore(2), mp.Event(), mp.Condition(), mp.Queue(3),
        mp.Array("i", 2), mp.Value("d", 1), mp.Dict() }
      local d = mp.Dict()
      for i, o in ipairs(objects) do
        q:put(o)
        assert(q:get() == o, i)
        q:put{ deep = { { o } } }
        assert(q:get().deep[1][1] == o, i)
        d[i] = { o }
        assert(d[i][1] == o, i)
        q:put(function() return o end)
        assert(q:get()() == o, i)
      end
      all{ P(function(list)
        for i, o in ipairs(list) do assert(o == objects[i] and o == d[i][1]) end
      end, objects) }]]
  end)

  it("is the same inside the object that holds it", function()
    ok[[
      local q, go = mp.Queue(), mp.Queue()
      local p = P(function()
        local lock, array, e = table.unpack(q:get())
        lock:acquire()
        array[1] = 7
        e:set()
        go:get()
        lock:release()
      end)
      local lock, array, e = mp.Lock(), mp.Array("i", 1), mp.Event()
      q:put{ lock, array, e }
      e:wait()
      eq(array[1], 7)
      eq(lock:locked(), true)
      go:put(1)
      lock:acquire()
      all{ p }]]
  end)

  it("made in a child outlives it", function()
    ok[[
      local q = mp.Queue()
      all{ P(function()
        local inner = mp.Queue()
        inner:put("from the dead")
        local d = mp.Dict{ a = 1 }
        q:put{ inner, d, mp.Array("i", { 1, 2 }) }
      end) }
      local inner, d, a = table.unpack(q:get())
      collectgarbage()
      eq(inner:get(0), "from the dead")
      eq(d.a, 1)
      eq(a:totable(), { 1, 2 })]]
  end)

  it("that is kept only in a queue or a dict stays alive", function()
    ok[[
      local q, d = mp.Queue(), mp.Dict()
      do
        local inner = mp.Dict{ x = 1 }
        q:put(inner)
        d.k = { mp.Array("i", { 5 }) }
      end
      for _ = 1, 3 do collectgarbage() end
      for _ = 1, 200 do mp.Dict{ y = 2 } mp.Array("i", 10) end
      collectgarbage()
      eq(q:get().x, 1)
      eq(d.k[1][1], 5)]]
  end)

  it("passes through twenty processes", function()
    ok[[
      local first, q = mp.Queue(), mp.Queue()
      local list, from = {}, first
      for i = 1, 20 do
        local to = i == 20 and q or mp.Queue()
        list[i] = P(function(a, b) b:put(a:get()) end, from, to)
        from = to
      end
      local lock = mp.Lock()
      first:put{ lock = lock, at = { first, q } }
      local got = q:get()
      assert(got.lock == lock and got.at[1] == first and got.at[2] == q)
      all(list)]]
  end)
end)

describe("what cannot be sent", function()
  it("raises in the sender, with the path to it, and nothing is sent", function()
    ok[[
      local q = mp.Queue()
      local thread, closed = coroutine.create(print), io.tmpfile()
      closed:close()
      raises({ "cannot send a coroutine" }, q.put, q, thread)
      raises({ ".conn", "cannot send a coroutine" }, q.put, q, { conn = thread })
      raises({ "[2].list[1]", "coroutine" }, q.put, q, { 1, { list = { thread } } })
      raises({ "a key" }, q.put, q, { ["a key"] = thread })
      raises({ "closed file" }, q.put, q, closed)
      raises({ ".log", "closed file" }, q.put, q, { log = closed })
      eq(q:qsize(), 0)]]
  end)

  it("is found in upvalues and keys, and named", function()
    ok[[
      local q = mp.Queue()
      local thread, log = coroutine.create(print), io.tmpfile()
      log:close()
      raises({ "thread", "coroutine" }, q.put, q, function() return thread end)
      raises({ "log" }, q.put, q, function() return { log } end)
      raises({ "coroutine" }, q.put, q, { [thread] = 1 })
      raises({ "coroutine" }, q.put, q, { inner = function() return thread end })
      eq(q:qsize(), 0)]]
  end)

  it("includes C functions of no module", function()
    ok[[
      local q = mp.Queue()
      raises({ "C function" }, q.put, q, coroutine.wrap(function() end))
      raises({ "C function" }, q.put, q, { it = string.gmatch("a", "a") })
      eq(q:qsize(), 0)]]
  end)

  it("is refused by start, before there is a process, under fork too", function()
    ok[[
      local thread = coroutine.create(print)
      local p = mp.Process{ target = print, args = { 1, { conn = thread } } }
      raises({ "args[2].conn: cannot send a coroutine" }, p.start, p)
      eq(p.pid, nil)
      p = mp.Process(function() return thread end)
      raises({ "thread", "coroutine" }, p.start, p)
      eq(p.pid, nil)
      eq(#mp.active_children(), 0)]]
  end)

  it("is a table with an unregistered metatable", function()
    ok[[
      local q = mp.Queue()
      raises({ "metatable" }, q.put, q, setmetatable({}, {}))
      raises({ ".point", "metatable" }, q.put, q, { point = setmetatable({ x = 1 }, { __index = {} }) })
      eq(q:qsize(), 0)]]
  end)
end)

describe("a table with a metatable", function()
  it("is sent when the metatable is registered in both processes", function()
    ok[[
      mp.set_start_method("fork") -- which inherits what was registered
      local Point = { __name = "Point" }
      Point.__index = Point
      function Point:length() return math.sqrt(self.x ^ 2 + self.y ^ 2) end
      mp.register("Point", Point)
      local q, back = mp.Queue(), mp.Queue()
      local p = P(function()
        local point = q:get()
        back:put(point:length())
        point.x = 6 point.y = 8
        back:put{ point, point }
      end)
      q:put(setmetatable({ x = 3, y = 4 }, Point))
      eq(back:get(), 5.0)
      local t = back:get()
      assert(t[1] == t[2] and getmetatable(t[1]) == Point)
      eq(t[1]:length(), 10.0)
      p:join()]]
  end)

  it("is sent when the metatable is part of a module", function()
    ok[[
      package.preload["spec.class"] = function()
        local Class = {}
        Class.__index = Class
        function Class:double() return self.n * 2 end
        return Class
      end
      local Class = require "spec.class"
      local q = mp.Queue()
      q:put(setmetatable({ n = 4 }, Class))
      local o = q:get()
      eq(o:double(), 8)
      assert(getmetatable(o) == Class)]]
  end)

  it("is sent without running its metamethods", function()
    ok[[
      local mt = { __pairs = function() error "pairs" end, __len = function() error "len" end,
        __index = function() error "index" end, __newindex = function() error "newindex" end }
      mp.register("strict", mt)
      local q = mp.Queue()
      q:put(setmetatable({ 1, 2, a = 3 }, mt))
      local t = q:get()
      eq(rawget(t, 1), 1) eq(rawget(t, "a"), 3)]]
  end)

  it("is registered by a name, with a table", function()
    ok[[
      raises({ "register" }, mp.register, 5, {})
      raises({ "register" }, mp.register, "two", 5)]]
  end)
end)

describe("results and errors of a pool", function()
  it("are sent like everything else", function()
    ok[[
      local pool <close> = mp.Pool(1)
      local lock = mp.Lock()
      local n = 5
      local t = pool:apply(function(l) return { l, function() n = n + 1 return n end } end, { lock })
      assert(t[1] == lock)
      eq(t[2](), 6) eq(t[2](), 7)
      eq(table.pack(pool:apply(function() return 1, nil, "x", nil end)), table.pack(1, nil, "x", nil))]]
  end)

  it("that cannot be sent are the error of the task", function()
    ok[[
      local pool <close> = mp.Pool(1)
      raises("coroutine", pool.apply, pool, function() return coroutine.create(print) end)
      raises("coroutine", pool.apply, pool, function(x) return x end, { coroutine.create(print) })
      raises("a reason", pool.apply, pool, function() error(setmetatable({ coroutine.create(print) },
        { __tostring = function() return "a reason" end })) end)
      eq(pool:apply(function() return "fine" end), "fine")]]
  end)
end)
