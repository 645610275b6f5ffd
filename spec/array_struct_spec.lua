-- Arrays and values whose elements are structs.
local support = require "spec.support"
local ok, misuse = support.ok, support.misuse
local mp = require "mpengine"

local POINT <const> = { { "x", "d" }, { "y", "d" }, { "id", "i" } }
local MIXED <const> = { { "tag", "c" }, { "x", "d" }, { "h", "h", 3 }, { "name", "s5" }, { "id", "q" }, { "f", "f" } }
local PACKED <const> = "!8 c1 d hhh c5 i8 f !8 Xd" -- what string.pack makes of MIXED

-- Element i of an array of points.
local function point(i) return { x = i + 0.5, y = -i + 0.0, id = i } end
local function points(n)
  local list = {}
  for i = 1, n do list[i] = point(i) end
  return list
end

describe("a struct", function()
  it("has the layout of C", function()
    local s = mp.Struct(MIXED)
    assert.equal("tag:c,x:d,h:h3,name:c5,id:q,f:f", s.layout)
    assert.equal(48, s.size)
    assert.equal("mp.Struct: {tag: c, x: d, h: h[3], name: c[5], id: q, f: f} (48 bytes)", tostring(s))
    local offsets, counts = {}, {}
    for i, f in ipairs(s:fields()) do
      assert.equal(MIXED[i][1], f.name)
      offsets[i], counts[i] = f.offset, f.count or 0
    end
    assert.same({ 0, 8, 16, 22, 32, 40 }, offsets)
    assert.same({ 0, 0, 3, 5, 0, 0 }, counts)
    assert.equal(24, mp.Struct(POINT).size)
    assert.equal(1, mp.Struct{ { "a", "B" } }.size)
    assert.equal(6, mp.Struct{ { "a", "B" }, { "b", "h" }, { "c", "b" } }.size)
  end)

  it("is the same one when its fields are", function()
    assert.equal(mp.Struct(POINT), mp.Struct(POINT))
    assert.equal(mp.Struct{ { "n", "s5" } }, mp.Struct{ { "n", "c", 5 } })
    assert.not_equal(mp.Struct(POINT), mp.Struct(MIXED))
    assert.not_equal(mp.Struct{ { "a", "i" } }, mp.Struct{ { "a", "i", 1 } })
  end)

  it("names the field that is wrong", function()
    for _, case in ipairs{
      { { { "x", "z" } }, "field 'x'", "'z'" },
      { { { "x" } }, "field 'x'", "nil" },
      { { { "x", "d" }, { "x", "i" } }, "field 2", "already a field 'x'" },
      { { { "x", "d" }, "y" }, "field 2", "string" },
      { { { "1x", "d" } }, "field 1", "'1x'" },
      { { { "a-b", "d" } }, "field 1", "'a-b'" },
      { { { "", "d" } }, "field 1", "name" },
      { { { 5, "d" } }, "field 1", "number" },
      { { { "get", "d" } }, "field 1", "cannot be 'get'" },
      { { { "set", "d" } }, "field 1", "cannot be 'set'" },
      { { { "x", "d", 0 } }, "field 'x'", "got 0" },
      { { { "x", "d", 1.5 } }, "field 'x'", "1.5" },
      { { { "x", "d", "3" } }, "field 'x'", "from 1" },
      { { { "x", "s0" } }, "field 'x'", "got 0" },
      { { { "x", "s" } }, "field 'x'", "'s'" },
      { { { "x", "s5", 2 } }, "field 'x'", "'s5'" },
      { { { "x", "d", 1 << 40 } }, "field 'x'", "got 1099511627776" },
      { { { "x", "c", 1 << 24 }, { "y", "c" } }, "at most" },
    } do
      local wanted = table.move(case, 2, #case, 2, { "Struct" })
      misuse(wanted, mp.Struct, case[1])
      wanted[1] = "Array"
      misuse(wanted, mp.Array, case[1], 3)
    end
    misuse({ "Struct", "list of fields" }, mp.Struct, {})
    misuse({ "Struct", "list of fields", "no value" }, mp.Struct)
    misuse({ "Struct", "list of fields", "string" }, mp.Struct, "x:d")
  end)

  it("is sent, and makes arrays in every process", function()
    for _, method in ipairs(mp.get_all_start_methods()) do
      ok(("mp.set_start_method '%s'"):format(method) .. [[

        local T = mp.Struct{ { "x", "d" }, { "name", "s8" } }
        local q = mp.Queue()
        local p = P(function(U)
          assert(T == U)
          local a = mp.Array(T, { { x = 1, name = "one" } })
          q:put(a)
          q:put(T)
        end, T)
        local a, U = q:get(), q:get()
        eq(a[1]:get(), { x = 1.0, name = "one" })
        assert(U == T and U.size == 16)
        all{ p }]])
    end
  end)
end)

describe("an array of structs", function()
  it("is zeroed, and its fields are read and written", function()
    local a = mp.Array(mp.Struct(POINT), 3)
    assert.equal(3, #a)
    assert.same({ x = 0.0, y = 0.0, id = 0 }, a[2]:get())
    a[2].x = 1.5
    a[2].id = 7
    assert.equal(1.5, a[2].x)
    assert.same({ x = 1.5, y = 0.0, id = 7 }, a[2]:get())
    assert.equal(0, a[1].x)
    assert.equal("integer", math.type(a[2].id))
    assert.is_nil(a[0])
    assert.is_nil(a[4])
    local seen = {}
    for i, r in ipairs(a) do seen[i] = r.id end
    assert.same({ 0, 7, 0 }, seen)
    misuse({ "Array", "4", "from 1 to 3" }, function() a[4] = point(1) end)
  end)

  it("takes elements as tables, in the order of the fields, or from an array of them", function()
    local a = mp.Array(POINT, points(4))
    assert.same(point(3), a[3]:get())
    a[1] = { 9, 8, 7 }
    assert.same({ x = 9.0, y = 8.0, id = 7 }, a[1]:get())
    a[2] = a[1]
    assert.same({ x = 9.0, y = 8.0, id = 7 }, a[2]:get())
    local b = mp.RawArray(POINT, a)
    assert.same(a:totable(), b:totable())
    b:set(a:view(4, 3, -1), 1)
    assert.same({ point(4), point(3), point(3), point(4) }, b:totable())
    b:fill(point(5))
    assert.same(point(5), b[4]:get())
    assert.same({ point(5), point(5) }, b:totable(2, 3))
    local c = mp.Array{ type = POINT, size = 2, name = "points" }
    c:set(mp.List(points(2)))
    assert.same(points(2), c:totable())
    assert.truthy(tostring(c):find("'points' ({x: d, y: d, id: i}, 2 elements, free)", 1, true))
  end)

  it("names the field that does not fit, and nothing has changed", function()
    local a = mp.Array(MIXED, 3)
    local good = { tag = "t", x = 1, h = { 1, 2, 3 }, name = "abc", id = 5, f = 0.5 }
    a:fill(good)
    local before = a:string()
    local function but(changes)
      local t = {}
      for k, v in pairs(good) do t[k] = v end
      for k, v in pairs(changes) do t[k] = v end
      return t
    end
    local missing = but{}
    missing.id = nil
    for _, case in ipairs{
      { but{ x = "1" }, "field 'x'", "type 'd'", "a string" },
      { but{ f = 1e300 }, "field 'f'", "1e+300" },
      { but{ id = 1.5 }, "field 'id'", "1.5" },
      { but{ tag = "tt" }, "field 'tag'", "1 byte" },
      { but{ name = "abcdef" }, "field 'name'", "at most 5 bytes", "6" },
      { but{ name = 5 }, "field 'name'", "number" },
      { but{ h = { 1, 2 } }, "field 'h'", "3 elements", "2" },
      { but{ h = { 1, 2, 70000 } }, "field 'h'", "element 3", "70000" },
      { but{ h = 3 }, "field 'h'", "3 elements", "number" },
      { but{ z = 1 }, "no field 'z'", "{tag: c" },
      { missing, "field 'id'", "nil" },
      { { "t", 1, { 1, 2, 3 }, "abc", 5 }, "field 'f'", "nil" },
      { { "t", 1, { 1, 2, 3 }, "abc", 5, 6, 7 }, "no field '7'" },
      { 5, "table of fields", "number" },
      { mp.Array(POINT, 1)[1], "table of fields", "StructRef" },
    } do
      misuse({ "Array", "element 2", table.unpack(case, 2) }, function() a[2] = case[1] end)
      misuse({ "Array:set", "element 2", table.unpack(case, 2) }, a.set, a, { but{}, case[1] }, 2)
      misuse({ "Array", "element 2", table.unpack(case, 2) }, mp.Array, MIXED, { but{}, case[1] })
      misuse({ "fill", table.unpack(case, 2) }, a.fill, a, case[1])
      misuse({ "Value", "value", table.unpack(case, 2) }, mp.Value, MIXED, case[1])
    end
    misuse({ "Array", "element 3", "no field 'z'", "{tag: c" }, function() return a[3].z end)
    misuse({ "Array", "element 3", "no field 'z'" }, function() a[3].z = 1 end)
    misuse({ "Array", "element 3", "field 'x'", "number" }, function() a[3].x = {} end)
    misuse({ "Array", "element 3", "field 'h'", "element 2", "70000" }, function() a[3].h[2] = 70000 end)
    misuse({ "Array", "element 3", "field 'h'", "index 4", "from 1 to 3" }, function() a[3].h[4] = 1 end)
    misuse({ "ArrayView", "element 1", "field 'x'" }, function() a:view(3, 1, -1)[1].x = "s" end)
    misuse({ "StructRef:set", "field 'f'", "range" }, a[1].set, a[1], { x = 9, f = 1e300 })
    misuse({ "StructRef:set", "no field 'z'" }, a[1].set, a[1], { x = 9, z = 1 })
    misuse({ "StructRef:set", "table of fields", "nil" }, a[1].set, a[1], nil)
    misuse({ "FieldRef:set", "field 'h'", "element 3" }, a[1].h.set, a[1].h, { 4, 5, 1.5 })
    assert.equal(before, a:string())
  end)

  it("has fields of every type", function()
    for _, code in ipairs{ "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "f", "d" } do
      local a = mp.Array({ { "lead", "b" }, { "x", code }, { "list", code, 2 } }, 2)
      local plain = mp.Array(code, 1)
      for _, v in ipairs{ 0, 1, 127 } do
        a[1], plain[1] = { 5, v, { v, 1 } }, v
        assert.same({ lead = 5, x = plain[1], list = { plain[1], (plain[1] - plain[1]) + 1 } }, a[1]:get())
      end
      local refused = pcall(function() plain[1] = -2 ^ 70 end)
      assert.equal(refused, (pcall(function() a[2].x = -2 ^ 70 end)))
    end
    local t = mp.Array({ { "c", "c" }, { "u", "u" }, { "us", "u", 2 } }, 1)
    t[1] = { "\0", "é", { "€", "x" } }
    assert.same({ c = "\0", u = "é", us = { "€", "x" } }, t[1]:get())
  end)

  it("has texts without the zeros at their end", function()
    local a = mp.Array({ { "s", "s4" } }, 1)
    for _, s in ipairs{ "", "a", "abcd", "\0b", "\255\0c" } do
      a[1].s = s
      assert.equal(s, a[1].s)
    end
    a[1].s = "abcd"
    a[1].s = "z\0"
    assert.equal("z", a[1].s)
    assert.equal("z\0\0\0", a:string())
  end)

  it("has fields that are arrays", function()
    local a = mp.Array({ { "v", "f", 3 }, { "n", "i" } }, { { { 1, 2, 3 }, 4 } })
    local v = a[1].v
    assert.equal(3, #v)
    assert.equal(2, v[2])
    assert.is_nil(v[4])
    assert.is_nil(v[0])
    v[2] = 20
    assert.same({ 1.0, 20.0, 3.0 }, v:totable())
    local list = {}
    for i, x in ipairs(v) do list[i] = x end
    assert.same({ 1.0, 20.0, 3.0 }, list)
    a[1].v = { 7, 8, 9 }
    assert.same({ 7.0, 8.0, 9.0 }, v:totable())
    v:set{ 1, 1, 1 }
    assert.same({ v = { 1.0, 1.0, 1.0 }, n = 4 }, a[1]:get())
    assert.equal("mp.FieldRef: {1.0, 1.0, 1.0}", tostring(v))
    assert.is_true(a[1].v == v)
  end)

  it("sets some of the fields of an element", function()
    local a = mp.Array(MIXED, 2)
    a[2]:set{ name = "abc", h = { 1, 2, 3 } }
    a[2]:set{ x = 5 }
    a[2]:set{}
    assert.same({ tag = "\0", x = 5.0, h = { 1, 2, 3 }, name = "abc", id = 0, f = 0.0 }, a[2]:get())
    assert.equal("", a[1].name)
  end)

  it("shows its fields", function()
    local a = mp.Array(MIXED, 1)
    a[1] = { "t", 1, { 1, 2, 3 }, "a\n'", 5, 0.5 }
    assert.equal([[mp.StructRef: {tag = 't', x = 1.0, h = {1, 2, 3}, name = 'a\n\'', id = 5, f = 0.5}]], tostring(a[1]))
    local names = {}
    for name, v in pairs(a[1]) do names[#names + 1] = name .. "=" .. tostring(v) end
    assert.equal("tag=t x=1.0 h=mp.FieldRef: {1, 2, 3} name=a\n' id=5 f=0.5", table.concat(names, " "))
    assert.is_true(a[1] == a[1])
    assert.is_true(a:view(1, 1)[1] == a[1])
    assert.is_false(a[1] == mp.Array(MIXED, 1)[1])
  end)

  it("gives and takes the bytes that C has", function()
    local a = mp.Array(MIXED, 2)
    a[1] = { "t", 1.5, { 1, 2, -3 }, "abc", 5, 0.5 }
    a[2] = { "u", -2, { 0, 0, 9 }, "", -1, 2 }
    local function pack(t) return (t:gsub("%z*$", "")) end
    local first = string.pack(PACKED, "t", 1.5, 1, 2, -3, "abc", 5, 0.5)
    assert.equal(pack(first), pack(a:string(1, 1)))
    assert.equal(96, #a:string())
    local b = mp.Array(MIXED, 2)
    b:set_string(a:string())
    assert.same(a:totable(), b:totable())
    b:view(2, 1, -1):set_string(a:string())
    assert.same(a[1]:get(), b[2]:get())
    assert.equal(a:string(2) .. a:string(1, 1), a:view(2, 1, -1):string())
    misuse({ "set_string", "48 bytes" }, a.set_string, a, "12345678")
  end)

  it("has views, rows and columns", function()
    local a = mp.Array(POINT, points(12))
    local v = a:view(12, 1, -3)
    assert.same({ point(12), point(9), point(6), point(3) }, v:totable())
    v[2].x = 100
    assert.equal(100, a[9].x)
    v[1] = point(1)
    assert.same(point(1), a[12]:get())
    local m = a:reshape(3, 4)
    assert.same(point(6), m:get(2, 2):get())
    assert.is_nil(m:get(4, 1))
    m:set(2, 2, point(60))
    assert.equal(60, a[6].id)
    assert.same({ point(2), point(60), point(10) }, m:col(2):totable())
    assert.same({ 3, 4 }, { m:field("x"):shape() })
    assert.equal(10.5, m:field("x"):get(3, 2))
    local r = mp.Array{ type = POINT, rows = 2, cols = 3 }
    assert.same({ 2, 3 }, { r:shape() })
    r:row(2):fill(point(4))
    assert.equal(12, r:field("id"):sum())
  end)

  it("has views of a field, which are arrays of numbers", function()
    local a = mp.Array(POINT, points(3000))
    local x, y, id = a:field "x", a:field "y", a:field "id"
    assert.equal(3000, #x)
    local sum, dot = 0, 0
    for i = 1, 3000 do
      sum = sum + i
      dot = dot + (i + 0.5) * -i
      if i % 500 == 1 then assert.equal(i + 0.5, x[i]) end
    end
    assert.equal(sum, id:sum())
    assert.equal(sum + 1500, x:sum())
    assert.equal(dot, x:dot(y))
    assert.same({ 1.5, 3000.5, -3000.0, 1 }, { x:min(), x:max(), y:min(), id:min() })
    x:axpy(1, y)
    assert.same({ 0.5, 0.5 }, { x:min(), x:max() })
    id:scale(-2)
    assert.equal(-2 * sum, id:sum())
    assert.same({ x = 0.5, y = -7.0, id = -14 }, a[7]:get())
    assert.equal(-4, id:add(7, 10))
    assert.same({ false, -4 }, { id:compare_exchange(7, 1, 2) })
    assert.equal(-4, a[7].id)
    assert.equal(0.5, a:view(3000, 1, -1000):field("x")[3])
    x:fill(2)
    x:set({ 5 }, 2)
    assert.same({ 2.0, 5.0, 2.0 }, x:totable(1, 3))
    assert.equal(a:get_lock(), x:get_lock())
    local m = mp.Array(MIXED, 4)
    m:field("h", 2):fill(3)
    assert.same({ 0, 3, 0 }, m[4].h:totable())
    m:field("name", 1):set_string("wxyz")
    assert.equal("y", m[3].name)
  end)

  it("is no array of numbers itself", function()
    local a, d = mp.Array(POINT, 3), mp.Array("d", 3)
    for _, method in ipairs{ "sum", "min", "max", "dot", "scale", "axpy", "add", "compare_exchange" } do
      misuse({ "Array:" .. method, "structs", "field" }, a[method], a, 1, a, a)
    end
    misuse({ "Array:dot", "{x: d, y: d, id: i}" }, d.dot, d, a)
    misuse({ "Array:field", "structs", "'d'" }, d.field, d, "x")
    misuse({ "Array:field", "no field 'z'" }, a.field, a, "z")
    misuse({ "Array:field", "no field" }, a.field, a)
    misuse({ "Array:field", "'x'", "k must be absent" }, a.field, a, "x", 1)
    local m = mp.Array(MIXED, 1)
    misuse({ "Array:field", "k must be an integer", "no value" }, m.field, m, "h")
    misuse({ "Array:field", "from 1 to 3", "4" }, m.field, m, "h", 4)
    misuse({ "Array:field", "k must be an integer", "string" }, m.field, m, "h", "x")
  end)

  it("is sent like every array, its elements by value or not at all", function()
    ok[[
      local a = mp.Array({ { "x", "d" }, { "name", "s8" } }, 4)
      local q, d = mp.Queue(), mp.Dict{ a = a, x = a:field "x" }
      local list = {}
      for k = 1, 4 do
        list[k] = P(function(mine)
          mine[k] = { x = k, name = "p" .. k }
          d.a[k].x = d.a[k].x + 10
          q:put(mine:view(k, k))
        end, a)
      end
      for _ = 1, 4 do
        local v = q:get()
        assert(v[1].x > 10 and v[1].name:find "^p%d$")
      end
      all(list)
      eq(d.x:totable(), { 11.0, 12.0, 13.0, 14.0 })
      raises({ "item", "StructRef", "a copy" }, q.put, q, a[1])
      raises({ "item.v[2]", "FieldRef", "send the array" }, q.put, q,
        { v = { 1, mp.Array({ { "v", "i", 2 } }, 1)[1].v } })
      q:put(a[1]:get())
      eq(q:get(), { x = 11.0, name = "p1" })
      local pool <close> = mp.Pool(2)
      eq(pool:map(function(t) return t.x .. t.name end, a), { "11.0p1", "12.0p2", "13.0p3", "14.0p4" })]]
  end)

  it("outlives its variable in a reference", function()
    ok[[
      local function first() return mp.Array({ { "x", "d" }, { "v", "i", 2 } }, { { 5, { 6, 7 } } })[1] end
      local r, v = first(), first().v
      collectgarbage() collectgarbage()
      local other = mp.Array("B", 1000)
      other:fill(255)
      eq(r.x, 5.0)
      eq(v:totable(), { 6, 7 })]]
  end)

  it("never shows a torn field, nor a torn element", function()
    ok[[
      local T = mp.Struct{ { "pad", "b" }, { "x", "d" }, { "y", "d" }, { "n", "i", 40 } }
      local a, stop = mp.Array(T, 3), mp.Event()
      local u, v = 1.0, string.unpack("d", string.pack("I8", 0x4123456789abcdef))
      local function element(x)
        local n = {}
        for i = 1, 40 do n[i] = x == u and 1 or -1 end
        return { pad = 1, x = x, y = x, n = n }
      end
      local one, two = element(u), element(v)
      a:fill(one)
      local p = P(function()
        while not stop:is_set() do
          a[2] = one
          a:view(2, 2)[1] = two
          a[2]:set{ x = u, y = u, n = one.n }
        end
      end)
      for _ = 1, 5000 do
        local x = a[2].x
        assert(x == u or x == v)
        a[3] = a[2]
        for _, t in ipairs{ a[2]:get(), a[3]:get(), a:view(3, 1, -1)[2]:get() } do
          assert(t.x == t.y)
          for i = 1, 40 do assert(t.n[i] == (t.x == u and 1 or -1)) end
        end
      end
      stop:set()
      all{ p }]]
  end)

  it("has whole elements though a process is killed that writes them", function()
    ok[[
      local T = mp.Struct{ { "x", "d" }, { "text", "s3000" }, { "y", "d" } }
      local a = mp.Array(T, 2)
      for _ = 1, 30 do
        local started = mp.Event()
        local p = P(function()
          for i = 1, math.huge do
            a[2] = { x = i, text = tostring(i):rep(100), y = i }
            started:set()
          end
        end)
        started:wait()
        kill(p.pid)
        p:join()
        local t = a[2]:get()
        eq(t.y, t.x)
        eq(t.text, tostring(t.x // 1 | 0):rep(100))
      end]]
  end)

  it("tells the next owner of its lock of a death, though elements were read and written since", function()
    ok[[
      local a = mp.Array({ { "x", "d" }, { "y", "d" } }, 2)
      local p = P(function()
        a:acquire()
        a[1] = { x = 1, y = 1 }
        kill(0)
      end)
      p:join()
      eq(p.exitcode, -9)
      a[2] = { x = 2, y = 2 }
      eq({ a[1].x, a[2]:get().y }, { 1.0, 2.0 })
      a[2]:set{ y = 3 }
      eq({ a:acquire() }, { true, "owner_died" })
      a:release()
      eq({ a:acquire() }, { true })]]
  end)

  it("waits for its lock to read or write an element, and other tasks go on", function()
    ok[[
      local a, held, go = mp.Array({ { "x", "d" }, { "y", "d" } }, 2), mp.Event(), mp.Event()
      local p = P(function()
        local _ <close> = a:guard()
        a[1] = { x = 1, y = 1 } -- its own
        held:set()
        go:wait()
        a[1].x, a[1].y = 2, 2
      end)
      held:wait()
      local r, done = a[1], {}
      local tasks = {
        mp.co.spawn(function() local t = r:get() done[#done + 1] = t.x + t.y end),
        mp.co.spawn(function() a:view(2, 2)[1] = { 5, 5 } done[#done + 1] = "written" end),
        mp.co.spawn(coroutine.wrap(function() select(2, pcall(a[2].set, a[2], { y = 6 })) done[#done + 1] = "set" end)),
      }
      for _ = 1, 10 do mp.co.sleep(0) end
      eq(done, {})
      eq(r.x, 1.0) -- a field needs no lock
      go:set()
      mp.co.joinall(tasks)
      eq(#done, 3)
      for _, v in ipairs(done) do assert(v == 4.0 or v == "written" or v == "set") end
      eq(a[2].y == 6.0 or a[2].y == 5.0, true)
      all{ p }
      -- one that is cancelled while it waits changes nothing
      a:acquire()
      local t = mp.co.spawn(function() a[1] = { x = 9, y = 9 } end)
      mp.co.sleep(0)
      t:kill()
      t:join()
      eq(a[1]:get(), { x = 2.0, y = 2.0 })
      a:release()
      -- a RawArray has no lock to wait for
      local raw = mp.RawArray({ { "x", "d" } }, { { 1 } })
      raw[1] = raw[1]
      eq(raw[1]:get(), { x = 1.0 })]]
  end)

  it("takes the memory of its elements", function()
    ok[[
      local function used() collectgarbage() collectgarbage() return mp.stats().arena.used end
      local before = used()
      local a = mp.RawArray({ { "x", "d" }, { "y", "d" }, { "id", "i" } }, 100000)
      local bytes = (used() - before) / #a
      assert(bytes >= 24 and bytes < 26, bytes)]]
  end)

  it("of many layouts has the fields of each", function()
    for n = 1, 40 do
      local fields, values = {}, {}
      for i = 1, n do fields[i], values[i] = { "f" .. i, i % 2 == 0 and "d" or "i" }, i end
      local a = mp.Array(fields, { values })
      for i = 1, n do assert.equal(i, a[1]["f" .. i]) end
      misuse({ "no field" }, function() return a[1]["f" .. n + 1] end)
    end
    local long = ("n"):rep(50)
    local a = mp.Array({ { long, "i" }, { long .. "2", "i" } }, { { 1, 2 } })
    assert.equal(2, a[1][("n"):rep(50) .. 2])
    a[1][("n"):rep(50)] = 7
    assert.equal(7, a:field(long)[1])
  end)
end)

describe("a value of a struct", function()
  it("is read and written as an element", function()
    local v = mp.Value(POINT, { x = 1, y = 2, id = 3 })
    assert.same({ x = 1.0, y = 2.0, id = 3 }, v.value:get())
    v.value.x = 10
    v.value = { v.value.x + 1, 0, 4 }
    assert.same({ x = 11.0, y = 0.0, id = 4 }, v.value:get())
    misuse({ "Value: field 'id'", "1.5" }, function() v.value.id = 1.5 end)
    misuse({ "Value: value", "field 'y'", "nil" }, function() v.value = { x = 1 } end)
    misuse({ "Value:add", "structs" }, v.add, v, 1)
    misuse({ "Value:compare_exchange", "structs" }, v.compare_exchange, v, 1, 2)
    assert.truthy(tostring(v):find("({x: d, y: d, id: i}, free)", 1, true))
    assert.same({ x = 0.0, y = 0.0, id = 0 }, mp.RawValue(POINT).value:get())
    assert.same({ x = 1.0, y = 1.0, id = 1 }, mp.Value{ type = POINT, value = { 1, 1, 1 } }.value:get())
  end)

  it("is shared", function()
    ok[[
      local v = mp.Value({ { "n", "i" }, { "last", "s10" } })
      local list = {}
      for k = 1, 3 do
        list[k] = P(function()
          for _ = 1, 200 do
            local _ <close> = v:guard()
            v.value = { v.value.n + 1, "p" .. k }
          end
        end)
      end
      all(list)
      eq(v.value.n, 600)]]
  end)
end)
