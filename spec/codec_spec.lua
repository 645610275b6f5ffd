local mp = require "mpengine"
local encode, decode = mp.codec.encode, mp.codec.decode

local function through(...) return decode(encode(...), { functions = true }) end

local function is(got, want)
  assert.are.equal(math.type(want), math.type(got))
  if want ~= want then return assert.is_true(got ~= got) end
  assert.are.equal(want, got)
end

local function refuses(text, ...)
  local good, err = pcall(encode, ...)
  assert.is_false(good)
  assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
end

local function damaged(text, s, options)
  local good, err = pcall(decode, s, options)
  assert.is_false(good)
  assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
end

describe("codec: Lua's memory", function()
  it("is read where the build allows it and Lua is of its release", function()
    assert.are.equal(os.getenv("PLAIN") ~= "0", require "mpengine.core".codec_reads_memory)
  end)
end)

describe("codec: plain values", function()
  local scalars = { true, false, 0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 24, 1 << 31, 1 << 32, (1 << 47) - 1,
    1 << 47, math.maxinteger, -1, -256, -257, -65537, -(1 << 32) - 1, -(1 << 47) - 1, math.mininteger, 0.0, 1.0, 0.1,
    2 ^ 63, -1e-320, math.huge, -math.huge, 0 / 0, "", "a", ("s"):rep(31), ("s"):rep(32), ("s"):rep(127),
    ("s"):rep(128), ("long"):rep(100000), "\0", "a\0b", "\xff\xfe" }

  it("keeps every scalar, alone and in tables", function()
    for _, v in ipairs(scalars) do
      is(through(v), v)
      local t = through{ v, { v }, key = v }
      is(t[1], v)
      is(t[2][1], v)
      is(t.key, v)
      if v == v then is((next(through{ [v] = true })), (next{ [v] = true })) end
    end
    is(1 / through(-0.0), -math.huge)
    is(1 / through{ -0.0 }[1], -math.huge)
  end)

  it("keeps the number of values, nil among them", function()
    assert.are.equal(0, select("#", through()))
    assert.are.same(table.pack(nil), table.pack(through(nil)))
    assert.are.same(table.pack(1, nil, "x", nil), table.pack(through(1, nil, "x", nil)))
    assert.are.equal(300, select("#", through(table.unpack({}, 1, 300))))
  end)

  it("takes few bytes for small values", function()
    for _, v in ipairs{ true, 0, 127, "" } do assert.are.equal(1, #encode(v)) end
    assert.are.equal(6, #encode("hello"))
    assert.are.equal(6, #encode{ 1, 2, 3 })
  end)
end)

describe("codec: tables", function()
  it("keeps elements, pairs and holes", function()
    for _, t in ipairs{ {}, { 1, 2, 3 }, { a = 1, b = { c = 2 } }, { 1, nil, 3 }, { nil, nil, 3 }, { 1, nil, 3, n = 3 },
      { [1.5] = "x", [true] = "y", [-1] = "z", [0] = 0, [math.maxinteger] = 1 }, { { { {} } } }, { 1, 2, x = 3 } } do
      assert.are.same(t, through(t))
    end
  end)

  it("keeps the elements that Lua holds in the hash part", function()
    local t = {}
    for i = 100, 1, -1 do t[i] = i end
    assert.are.same(t, through(t))
    t = { a = 1, b = 2, c = 3 }
    t[1], t[2] = "x", "y"
    assert.are.same(t, through(t))
    for i = 1, 90 do t[i] = nil end
    assert.are.same(t, through(t))
  end)

  it("keeps tables of any number of pairs", function()
    for _, n in ipairs{ 1, 126, 127, 128, 129, 255, 256, 257, 5000 } do
      local t = {}
      for i = 1, n do t["key" .. i] = i end
      assert.are.same(t, through(t))
    end
  end)

  it("keeps shared tables shared and cycles closed", function()
    local s = { "shared" }
    local t = { a = s, b = s, list = { s } }
    t.self = t
    t[t] = t
    local u, again = through(t, s)
    assert.are_not.equal(t, u)
    assert.is_true(u.a == u.b and u.a == u.list[1] and u.a == again)
    assert.is_true(u.self == u and u[u] == u)
    assert.are.equal("shared", u.a[1])
  end)

  it("keeps more shared values than have a short reference", function()
    local list, shared = {}, {}
    for i = 1, 300 do
      shared[i] = { i }
      list[i], list[300 + i], list[600 + i] = shared[i], shared[i], shared[i]
    end
    local u = through(list)
    for i = 1, 300 do
      assert.are.equal(i, u[i][1])
      assert.is_true(u[i] == u[300 + i] and u[i] == u[600 + i])
    end
  end)

  it("sends the keys of records once", function()
    local records = {}
    for i = 1, 1000 do
      records[i] = { identifier = i, description = true, ["a very long key, longer than forty bytes"] = 0 }
    end
    local s = encode(records)
    assert.is_true(#s < 1000 * 12, #s)
    assert.are.same(records, decode(s))
  end)

  it("calls no metamethod", function()
    local function never() error "called" end
    local mt = { __pairs = never, __len = never, __index = never, __newindex = never, __eq = never, __gc = never,
      __name = "strict" }
    mt.__gc = nil
    mp.register("codec_spec.strict", mt)
    local t = through(setmetatable({ 1, 2, a = 3 }, mt))
    assert.are.equal(3, rawget(t, "a"))
    assert.are.equal(2, rawget(t, 2))
  end)

  it("may be nested a hundred thousand deep", function()
    for _, key in ipairs{ 1, "k" } do
      for _, bottom in ipairs{ { 0 }, function() return 0 end } do
        local t = { [key] = bottom }
        for _ = 1, 100000 do t = { [key] = t } end
        local u, depth = through(t), 0
        while type(u[key]) == "table" and u[key][1] ~= 0 do u, depth = u[key], depth + 1 end
        assert.are.equal(100000, depth)
      end
    end
    local f = function() return 0 end
    for _ = 1, 100000 do
      local inner = f
      f = function() return inner end
    end
    f = through(f)
    for _ = 1, 100000 do f = f() end
    assert.are.equal(0, f())
  end)

  it("may not be nested deeper than a receiver can take", function()
    local t = {}
    for _ = 1, 300000 do t = { t } end
    refuses("nested so deep", t)
  end)
end)

describe("codec: functions", function()
  it("copies upvalues and leaves the originals alone", function()
    local n = 1
    local function f() n = n + 1 return n end
    local g = through(f)
    n = 10
    assert.are.equal(2, g())
    assert.are.equal(3, g())
    assert.are.equal(10, n)
  end)

  it("keeps upvalues shared, and only those that were", function()
    local n = 0
    local inc, get = through(function() n = n + 1 end, function() return n end)
    inc()
    inc()
    assert.are.equal(2, get())
    local made = {}
    for i = 1, 3 do
      local at = i
      made[i] = function() at = at + 1 return at end
    end
    made = through(made)
    assert.are.same({ 2, 3, 3, 4 }, { made[1](), made[1](), made[2](), made[3]() })
  end)

  it("keeps recursion, alone, of two, and through a table", function()
    local function fact(n) return n <= 1 and 1 or n * fact(n - 1) end
    assert.are.equal(3628800, through(fact)(10))
    local even, odd
    function even(n) return n == 0 or odd(n - 1) end
    function odd(n) return n ~= 0 and even(n - 1) end
    local e, o = through(even, odd)
    assert.is_true(e(10) and o(7))
    local object = { n = 5 }
    function object.get() return object.n end
    local u = through(object)
    u.n = 6
    assert.are.equal(6, u.get())
  end)

  it("uses the receiver's globals, unless it has an _ENV of its own", function()
    local f = through(function() return print end)
    assert.are.equal(print, f())
    assert.are.equal(_G, through(_G))
    local renamed = load("local env = _ENV return function() return env end")()
    assert.are.equal(_G, through(renamed)())
    local sandboxed = load("return string", "=sandboxed", "t", setmetatable({}, { __index = _G }))
    assert.are.equal(string, through(sandboxed)())
    local own = load("x = x + 1 return x, _ENV", "=own", "t", { x = 1 })
    local x, env = through(own)()
    assert.are.equal(2, x)
    assert.are_not.equal(_G, env)
    assert.are.equal(2, (own()))
  end)

  it("keeps names and lines for tracebacks", function()
    local function f(argument) error("at" .. argument) end
    local info, got = debug.getinfo(f, "S"), debug.getinfo(through(f), "S")
    assert.are.equal(info.source, got.source)
    assert.are.equal(info.linedefined, got.linedefined)
    assert.are.equal("argument", debug.getlocal(through(f), 1))
  end)

  it("may use all of the language", function()
    local f = through(function(...)
      local limit <const> = select("#", ...)
      local sum, closed = 0, false
      do
        local _ <close> = setmetatable({}, { __close = function() closed = true end })
        for i = 1, limit do
          local v = (select(i, ...))
          if v % 2 == 0 then goto continue end
          sum = sum + v
          ::continue::
        end
      end
      return sum, closed, 3 // 2 | 8, 1.5, -0.0, "long string " .. ("x"):rep(50), math.maxinteger
    end)
    local r = table.pack(f(1, 2, 3, 4, 5))
    assert.are.same({ 9, true, 9 }, { r[1], r[2], r[3] })
    assert.are.equal(-math.huge, 1 / r[5])
  end)

  it("goes together with plain tables, shared ones among them", function()
    local config = { name = "x", list = { 1, 2, 3 } }
    local f, args, again = through(function() return config end, { config, { config.list } }, config)
    assert.is_true(f() == again and args[1] == again and args[2][1] == again.list)
    local half = { { plain = true }, { print }, config }
    local t, c = through({ half, config }, config)
    assert.are.equal(print, t[1][2][1])
    assert.is_true(t[1][3] == c and t[2] == c)
    t = through{ { 1, 2, f = function() return config end }, config, { { config } } }
    assert.is_true(t[1].f() == t[2] and t[3][1][1] == t[2])
  end)

  it("sends the code of many closures of one function once", function()
    local closures = {}
    for i = 1, 100 do closures[i] = function() return i, "some code that would be long if it were repeated" end end
    assert.is_true(#encode(closures) < 2000)
    local got = through(closures)
    assert.are.equal(100, (got[100]()))
  end)

  it("is accepted as bytecode only when asked for", function()
    local s = encode{ function() end }
    damaged("functions were not asked for", s)
    damaged("functions were not asked for", s, { functions = false })
    assert.are.equal("function", type(decode(s, { functions = true })[1]))
  end)
end)

describe("codec: modules", function()
  it("sends functions and tables of the standard library by name", function()
    for _, v in ipairs{ string.format, print, table.concat, math.floor, pcall, io.open, string, table, _G,
      package.loaded, mp, mp.codec.encode } do
      assert.are.equal(v, (decode(encode(v))))
      assert.are.equal(v, (decode(encode{ k = { v } })).k[1])
    end
  end)

  it("sends what belongs to a loaded module by name, also right after it was loaded", function()
    package.preload["codec_spec.module"] = function()
      local M = { sub = { data = {} } }
      function M.f() return M end
      function M.sub.g() end
      return M
    end
    local M = require "codec_spec.module"
    for _, v in ipairs{ M, M.f, M.sub, M.sub.g, M.sub.data } do assert.are.equal(v, (through(v))) end
    assert.are.equal(M, through(function() return M end)())
    package.loaded["codec_spec.module"] = nil
    assert.are_not.equal(M, (through(M)))
    package.preload["codec_spec.module"] = nil
  end)

  it("sends a module of data alone by name", function()
    local data = { 1, 2, 3 }
    assert.are_not.equal(data, (through(data)))
    package.loaded["codec_spec.data"] = data
    assert.are.equal(data, (through(data)))
    package.loaded["codec_spec.data"] = nil
    assert.are_not.equal(data, (through(data)))
  end)

  it("loads the module where it is not loaded, if functions are asked for", function()
    local loads = 0
    package.preload["codec_spec.late"] = function()
      loads = loads + 1
      return { f = function() return loads end }
    end
    local s = encode(require "codec_spec.late".f)
    package.loaded["codec_spec.late"] = nil
    damaged("codec_spec.late", s)
    local f = decode(s, { functions = true })
    assert.are.equal(2, f())
    package.loaded["codec_spec.late"], package.preload["codec_spec.late"] = nil, nil
    damaged("codec_spec.late", s, { functions = true })
  end)

  it("names the key that is missing in a module", function()
    package.loaded["codec_spec.short"] = { there = function() end }
    local s = encode(package.loaded["codec_spec.short"].there)
    package.loaded["codec_spec.short"].there = nil
    damaged("'codec_spec.short' has no 'there'", s)
    package.loaded["codec_spec.short"] = nil
  end)

  it("copies what the script itself defined as a global", function()
    codec_spec_function = function() return 7 end -- luacheck: ignore
    codec_spec_table = { 1 } -- luacheck: ignore
    local f, t = through(codec_spec_function, codec_spec_table) -- luacheck: ignore
    assert.are_not.equal(codec_spec_function, f) -- luacheck: ignore
    assert.are_not.equal(codec_spec_table, t) -- luacheck: ignore
    assert.are.equal(7, f())
    codec_spec_function, codec_spec_table = nil, nil -- luacheck: ignore
  end)
end)

describe("codec: metatables", function()
  it("come back when they were registered", function()
    local Point = {}
    Point.__index = Point
    function Point:length() return math.sqrt(self.x ^ 2 + self.y ^ 2) end
    mp.register("codec_spec.Point", Point)
    local p = setmetatable({ x = 3, y = 4 }, Point)
    local t = through{ p, p, setmetatable({}, Point) }
    assert.is_true(t[1] == t[2] and t[1] ~= p)
    assert.are.equal(Point, getmetatable(t[1]))
    assert.are.equal(Point, getmetatable(t[3]))
    assert.are.equal(5.0, t[1]:length())
  end)

  it("stay themselves when they are sent as values", function()
    local Class = { data = true }
    mp.register("codec_spec.Class", Class)
    assert.are.equal(Class, (through(Class)))
    local make = through(function() return setmetatable({}, Class) end)
    assert.are.equal(Class, getmetatable(make()))
    local u = through{ Class, { Class }, self = Class }
    assert.is_true(u[1] == Class and u[2][1] == Class and u.self == Class)
  end)

  it("become known where only their contents arrive", function()
    local Class = {}
    Class.__index = Class
    function Class.new() return setmetatable({}, Class) end
    mp.register("codec_spec.Moved", Class)
    local s = encode(Class)
    mp.register("codec_spec.Moved", {})
    local known = decode(s, { functions = true })
    assert.are_not.equal(Class, known)
    s = s:gsub("Moved", "Other")
    local other = decode(s, { functions = true })
    assert.are.equal(other, other.__index)
    assert.are.equal(other, getmetatable(other.new()))
    assert.are.equal(other, getmetatable((through(other.new()))))
  end)

  it("may belong to a module", function()
    local Class = { sub = {} }
    package.loaded["codec_spec.class"] = Class
    assert.are.equal(Class, getmetatable((through(setmetatable({}, Class)))))
    assert.are.equal(Class.sub, getmetatable((through(setmetatable({}, Class.sub)))))
    package.loaded["codec_spec.class"] = nil
  end)

  it("must be registered in the receiver too", function()
    local mt = {}
    mp.register("codec_spec.here", mt)
    damaged("codec_spec.thre", (encode(setmetatable({}, mt)):gsub("here", "thre")))
  end)

  it("may have several names, and keep the others when one moves", function()
    local Class = {}
    mp.register("codec_spec.first", Class)
    mp.register("codec_spec.second", Class)
    local t = setmetatable({}, Class)
    local second = encode(t)
    mp.register("codec_spec.second", {})
    assert.are.equal(Class, getmetatable((through(t))))
    assert.are_not.equal(Class, getmetatable((decode(second))))
    mp.register("codec_spec.first", Class)
    assert.are.equal(Class, getmetatable((through(t))))
    mp.register("codec_spec.first", {})
    refuses("metatable that is not registered", t)
  end)

  it("may have instances in their own contents, also where they are not known", function()
    local Class = {}
    Class.__index = Class
    Class.default = setmetatable({ n = 7 }, Class)
    Class.list = { setmetatable({ Class.default }, Class) }
    mp.register("codec_spec.nested", Class)
    local s = encode(Class, Class.default):gsub("nested", "unseen")
    damaged("codec_spec.unseen", s)
    local other, default = decode(s, { functions = true })
    assert.are.equal(other, other.default.__index)
    assert.are.equal(default, other.default)
    assert.are.equal(7, default.n)
    assert.are.equal(other, getmetatable(other.list[1]))
    assert.are.equal(default, other.list[1][1])
    assert.are.equal(other, getmetatable((through(default))))
    local bytes = "\xff\x92codec_spec.damage0\xf0\0\1"
    damaged("damaged", bytes .. "\1\2\xf0", { functions = true })
    damaged("codec_spec.damage0", "\xfb\x92codec_spec.damage0\xf0\0\0", { functions = true })
    local within = "\xff\x92codec_spec.within0\xf0\0\1"
    local class = decode(within .. "\1" .. within .. "\2\xfb\x92codec_spec.within0\xf0\0\0", { functions = true })
    assert.are.equal(class, class[1])
    assert.are.equal(class, (through(class)))
  end)

  it("are registered with a name and a table", function()
    assert.has_error(function() mp.register(5, {}) end)
    assert.has_error(function() mp.register("two", 5) end)
  end)
end)

describe("codec: what cannot be sent", function()
  local thread = coroutine.create(print)

  it("is named with the path to it", function()
    refuses("value: cannot send a coroutine", thread)
    refuses("value[2]: cannot send a coroutine", 1, thread)
    refuses("value.conn: cannot send a coroutine", { conn = thread })
    refuses("value[2].list[1]: cannot send a coroutine", { 1, { list = { thread } } })
    refuses('value["a key"][1.5][true]: cannot', { ["a key"] = { [1.5] = { [true] = thread } } })
    refuses("(the key): cannot send a coroutine", { [thread] = 1 })
    refuses("value: cannot send a FILE* (open file)", io.stdout)
    refuses("value: cannot send a C function of no module", coroutine.wrap(print))
    refuses("value.it: cannot send a C function of no module", { it = string.gmatch("a", "a") })
  end)

  it("is found in upvalues", function()
    local conn, log = thread, { io.stdout }
    refuses("value.upvalue 'conn': cannot send a coroutine", function() return conn end)
    refuses("value.f.upvalue 'log'[1]: cannot send a FILE*", { f = function() return log end })
  end)

  it("has a short path however deep it is", function()
    local t = { thread }
    for _ = 1, 100000 do t = { next = t } end
    local _, err = pcall(encode, t)
    assert.is_true(#err < 300, err)
    assert.is_truthy(err:find("(99985 levels)", 1, true), err)
  end)

  it("is a table with an unregistered metatable", function()
    refuses("value.p: cannot send a table with a metatable that is not registered (see mp.register)",
      { p = setmetatable({}, {}) })
    refuses("value.p: cannot send a Point: its metatable is not registered (see mp.register)",
      { p = setmetatable({}, { __name = "Point" }) })
    refuses("value: cannot send a mp.Process: its metatable", mp.Process(print))
  end)

  it("is a table whose metatable is sent too, but by value", function()
    local mt = {}
    refuses("value[2]: cannot send a table with a metatable", mt, setmetatable({}, mt))
  end)

  it("leaves the codec usable", function()
    for _ = 1, 10 do
      refuses("coroutine", { 1, { a = thread } })
      assert.are.same({ 1, { a = 2 } }, through{ 1, { a = 2 } })
    end
  end)
end)

describe("codec: damaged bytes", function()
  local thing = { 1, 2.5, "text", ("long"):rep(20), { a = { b = "text" } }, true, false, { 300, -300, 1 << 40 } }
  thing.self, thing.f, thing.print = thing, function() return thing end, print

  local function tries(s, options)
    local good, err = pcall(decode, s, options)
    assert.is_true(good or type(err) == "string")
    return good
  end

  it("raise when they are cut short", function()
    local s = encode(thing)
    for n = 1, #s - 1 do assert.is_false(tries(s:sub(1, n), { functions = true })) end
  end)

  it("raise or decode when one byte is changed", function()
    local s = encode{ thing[1], thing[3], thing[5], thing[8], { thing[5], thing[8] }, x = "text" }
    for at = 1, #s do
      for byte = 0, 255 do tries(s:sub(1, at - 1) .. string.char(byte) .. s:sub(at + 1)) end
    end
  end)

  it("raise before memory is allocated for what they claim", function()
    for _, s in ipairs{ "\xee\xff\xff\xff\xff\xff\x7f", "\xf0\xff\xff\xff\xff\x0f\0", "\xf0\0\xbf", "\xf0\0\xff\0\0",
      "\xf2\xff\xff\xff\xff\x0f", "\xf4\xff\xff\xff\xff\x0f", ("\xf0\xff\xff\x3f\0"):rep(1 << 19) } do
      local before = collectgarbage("count")
      damaged("damaged data", s)
      assert.is_true(collectgarbage("count") - before < 64 * 1024)
    end
  end)

  it("raise when tables claim the same bytes", function()
    local n = 200000
    local s = ("\xf0\xa0\x8d\x06\0"):rep(n // 5) .. ("\0"):rep(n)
    local before = collectgarbage("count")
    tries(s)
    assert.is_true(collectgarbage("count") - before < 64 * 1024)
  end)

  it("raise for references to nothing and for invalid keys", function()
    for _, s in ipairs{ "\xc0", "\xdf", "\xf8\5", "\xf9\0", "\xf9\x90\1", "\xf7\0", "\xf6\1", "\xfe", "\xfb\1",
      "\xfb\x81x", "\xff\1", "\xfd0123456789abcdef", "\xf0\0\1\xe0\1", "\xf0\0\1\xe3\0\0\0\0\0\0\xf8\x7f\1",
      "\xf0\0\1\1", "\xfc12345678", "\xf2\0\x81x" } do
      damaged("cannot decode: ", s)
    end
  end)

  it("are refused when they are not a string", function()
    assert.has_error(function() decode(5) end)
    assert.has_error(function() decode() end)
    assert.has_error(function() decode("", 5) end)
  end)
end)
