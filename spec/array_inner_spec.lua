-- Structs in structs, as elements of arrays.
local support = require "spec.support"
local ok, misuse = support.ok, support.misuse
local mp = require "mpengine"

local PLACE <const> = { { "x", "d" }, { "y", "d" } }
local LEG <const> = { { "a", "h", 3 }, { "name", "s5" } }
local BODY <const> = { { "tag", "B" }, { "at", PLACE }, { "body", { { "m", "f" }, { "leg", LEG } } }, { "id", "i" } }
local PACKED <const> = "!8 B !8 d d f hhh c5 !4 i4 !8 Xd" -- what string.pack makes of BODY

-- Element i of an array of them.
local function body(i)
  local leg = { a = { i, 2, 3 }, name = "n" .. i }
  return { tag = i, at = { x = i + 0.5, y = -i }, body = { m = i, leg = leg }, id = -i }
end
local function same(i, r) assert.same(body(i), r:get()) end

describe("a struct in a struct", function()
  it("has the layout of C", function()
    local s = mp.Struct(BODY)
    assert.equal("tag:B,at:{x:d,y:d},body:{m:f,leg:{a:h3,name:c5}},id:i", s.layout)
    assert.equal("mp.Struct: {tag: B, at: {x: d, y: d}, body: {m: f, leg: {a: h[3], name: c[5]}}, id: i} (48 bytes)",
      tostring(s))
    local offsets = {}
    for i, f in ipairs(s:fields()) do offsets[i] = f.offset end
    assert.same({ 0, 8, 24, 40 }, offsets)
    local at = s:fields()[2]
    assert.equal(mp.Struct(PLACE), at.type)
    assert.is_nil(at.count)
    assert.equal(s, mp.Struct{ { "tag", "B" }, { "at", mp.Struct(PLACE) }, table.unpack(BODY, 3) })
    assert.equal(6, mp.Struct{ { "a", "b" }, { "b", { { "c", "b" }, { "d", { { "e", "h" } } } } } }.size)
    local a = mp.Array(BODY, { body(1), body(2) })
    assert.equal(PACKED:pack(2, 2.5, -2, 2, 2, 2, 3, "n2", -2), a:string(2, 2))
    a:set_string(PACKED:pack(3, 3.5, -3, 3, 3, 2, 3, "n3", -3))
    same(3, a[1])
  end)

  it("is read and written by its fields, and as a whole", function()
    local a = mp.Array(BODY, 3)
    a[2].at.x = 4
    a[2].body.leg.a[3] = 7
    a[2].body.leg.name = "abc"
    a[2].body.leg.a = { 1, 2, a[2].body.leg.a[3] }
    assert.same({ x = 4.0, y = 0.0 }, a[2].at:get())
    local leg = { a = { 1, 2, 7 }, name = "abc" }
    assert.same({ tag = 0, at = { x = 4.0, y = 0.0 }, body = { m = 0.0, leg = leg }, id = 0 }, a[2]:get())
    a[1] = body(5)
    a[2].body = a[1].body
    a[2].at = { 8, 9 }
    a[2].at:set{ y = 10 }
    a[2]:set{ tag = 6, id = 3 }
    assert.same({ tag = 6, at = { x = 8.0, y = 10.0 }, body = body(5).body, id = 3 }, a[2]:get())
    a[3] = { 1, a[2].at, { m = 2, leg = a[1].body.leg }, 4 }
    leg = body(5).body.leg
    assert.same({ tag = 1, at = { x = 8.0, y = 10.0 }, body = { m = 2.0, leg = leg }, id = 4 }, a[3]:get())
    same(5, a[1])
    leg = a[1].body.leg
    assert.equal("mp.StructRef: {a = {5, 2, 3}, name = 'n5'}", tostring(leg))
    assert.truthy(tostring(a[1]):find("at = {x = 5.5, y = -5.0}, body = {m = 5.0, leg = {a = ", 1, true))
    assert.equal(leg, a[1].body.leg)
    assert.not_equal(leg, a[2].body.leg)
    local outer = mp.Array({ { "first", PLACE } }, 1)[1]
    assert.not_equal(outer, outer.first)
    local seen = {}
    for name, v in pairs(a[3]) do seen[#seen + 1] = name .. type(v) end
    assert.same({ "tagnumber", "atuserdata", "bodyuserdata", "idnumber" }, seen)
    local v = mp.Value(BODY, body(2))
    v.value.at = { x = 1, y = v.value.body.m }
    assert.same({ x = 1.0, y = 2.0 }, v.value.at:get())
  end)

  it("takes as many bytes as it has, and no more, wherever it lies", function()
    for _, code in ipairs{ "b", "h", "i", "q", "f", "d" } do
      local inner = { { "p", code }, { "q", "b" }, { "r", code, 3 } }
      local a = mp.Array({ { "lead", "b" }, { "one", inner }, { "gap", "b" }, { "two", inner }, { "last", "b" } }, 3)
      local one, two = { p = 1, q = 2, r = { 3, 4, 5 } }, { p = 6, q = 7, r = { 8, 9, 10 } }
      a:fill{ 1, one, 2, two, 3 }
      for _, r in ipairs{ a[2], a:view(3, 1, -1)[2], a:view(1, 3, 2)[2] } do
        local whole = r:get()
        r.one = r.two
        r.two = one
        assert.same(whole, { lead = 1, one = r.two:get(), gap = 2, two = r.one:get(), last = 3 })
        assert.same({ 1, 2, 3 }, { r.lead, r.gap, r.last })
        r.one, r.two = one, two
      end
      assert.same(a[1]:get(), a[3]:get())
      assert.same(a[1]:get(), a[2]:get())
    end
  end)

  it("names the field that does not fit, and nothing has changed", function()
    local a = mp.Array(BODY, 2)
    a:fill(body(1))
    local before, v = a:string(), a:view(2, 1, -1)
    local at, leg = { "Array", "element 2", "field 'at'" }, { "Array", "element 2", "field 'body': field 'leg'" }
    local function case(where, text, f) misuse({ text, table.unpack(where) }, f) end
    case(at, "field 'x'", function() a[2].at.x = "1" end)
    case(at, "field 'y' of type 'd' must be a number, got nil", function() a[2].at = { 1 } end)
    case(at, "no field 'z', only those of {x: d, y: d}", function() a[2].at = { x = 1, y = 2, z = 3 } end)
    case(at, "must be a table of fields {x: d, y: d}, got number", function() a[2].at = 5 end)
    case(at, "got mp.StructRef", function() a[2].at = a[2].body end)
    case(at, "no field 'z'", function() return a[2].at.z end)
    case(leg, "no field '1'", function() a[2].body.leg[1] = 1 end)
    case(leg, "field 'a': index 4 is out of range", function() a[2].body.leg.a[4] = 1 end)
    case(leg, "field 'a': element 3", function() a[2] = { 1, { 1, 2 }, { 1, { { 1, 2, {} }, "" } }, 1 } end)
    case(leg, "field 'name' must be a string of at most 5 bytes", function()
      local t = body(1)
      t.body.leg.name = "abcdef"
      a[2] = t
    end)
    case({ "ArrayView: element 2: field 'body': field 'm'" }, "range", function() v[2].body.m = 1e300 end)
    case({ "Array:set: element 1: field 'at'" }, "got nil", function() a:set{ { tag = 1, body = body(1).body } } end)
    case({ "StructRef:set: argument #1: field 'at': field 'y'" }, "got nil", function()
      a[1]:set{ tag = 2, at = { x = 1 } }
    end)
    case({ "StructRef:set: argument #1: field 'x'" }, "got table", function() a[1].at:set{ y = 1, x = {} } end)
    case({ "Value: value: field 'at'" }, "got nil", function() mp.Value(BODY, { tag = 1 }) end)
    case({ "Value: field 'at'" }, "field 'x'", function() mp.Value(BODY).value.at.x = "" end)
    assert.equal(before, a:string())
  end)

  it("is refused where it cannot be", function()
    misuse({ "Struct: field 'x'", "a number of elements" }, mp.Struct, { { "x", PLACE, 3 } })
    misuse({ "Struct: field 'x'", "must not be empty" }, mp.Struct, { { "x", {} } })
    local twice = { { "y", "d" }, { "y", "d" } }
    misuse({ "Struct: field 'x': field 2", "already a field 'y'" }, mp.Struct, { { "x", twice } })
    misuse({ "Array: field 'x': field 'y'", "'zz'" }, mp.Array, { { "x", { { "y", "zz" } } } }, 1)
    misuse({ "Struct", "at most 16777216 bytes" }, mp.Struct, { { "x", { { "y", "c", 1 << 24 } } }, { "z", "c" } })
    local endless = {}
    endless[1] = { "x", endless }
    misuse({ "Struct: field 'x'", "at most 16 times" }, mp.Struct, endless)
    local deep = mp.Struct(PLACE)
    for _ = 1, 16 do deep = mp.Struct{ { "d", deep } } end
    local r = mp.Array(deep, 1)[1]
    for _ = 1, 16 do r = r.d end
    r.y = 5
    assert.equal(5, r.y)
    misuse({ "Struct", "16 structs in each other" }, mp.Struct, { { "d", deep } })
  end)

  it("has views of its numbers", function()
    local a = mp.Array(BODY, 100)
    for i = 1, 100 do a[i] = body(i) end
    local x, h = a:field "at.x", a:field("body.leg.a", 1)
    assert.equal(5100.0, x:sum())
    assert.equal(5050, h:sum())
    assert.equal(100, a:view(100, 1, -1):field("body.m")[1])
    x:scale(2)
    h:fill(4)
    assert.same({ 15.0, 4, 2 }, { a[7].at.x, a[7].body.leg.a[1], a[7].body.leg.a[2] })
    assert.equal("nnn", a:field("body.leg.name", 1):string(1, 3))
    misuse({ "Array:field", "field 'at' is a struct", "'at.x'" }, a.field, a, "at")
    misuse({ "Array:field", "field 'leg' is a struct", "'body.leg.a'" }, a.field, a, "body.leg")
    for _, path in ipairs{ "at.z", "at.", ".at", "at..x", "tag.x", "x", "body.leg.a.1" } do
      misuse({ "Array:field", ("no field '%s'"):format(path) }, a.field, a, path)
    end
    misuse({ "Array:field", "k must be an integer" }, a.field, a, "body.leg.a")
    misuse({ "Array:field", "field 'x' is not an array" }, a.field, a, "at.x", 1)
  end)

  it("is sent with its array, and is the same in every process", function()
    for _, method in ipairs(mp.get_all_start_methods()) do
      ok(("mp.set_start_method '%s'"):format(method) .. [[

        local T = mp.Struct{ { "n", "i" }, { "at", { { "x", "d" }, { "name", "s8" } } } }
        local a, q = mp.Array(T, 2), mp.Queue()
        all{ P(function(mine)
          mine[1].at = { x = 1, name = "one" }
          q:put(mp.Array(T, { mine[1], { 2, mine[1].at } }))
          q:put(mine[1].at:get())
        end, a) }
        eq(a[1].at:get(), { x = 1.0, name = "one" })
        eq(q:get()[2]:get(), { n = 2, at = { x = 1.0, name = "one" } })
        eq(q:get(), { x = 1.0, name = "one" })
        raises({ "item.r", "StructRef", "a copy" }, q.put, q, { r = a[1].at })]])
    end
  end)

  it("is never torn, also when a process is killed that writes it", function()
    ok[[
      local inner = { { "x", "d" }, { "text", "s2000" }, { "y", "d" } }
      local a = mp.Array({ { "a", inner }, { "n", "i" }, { "b", inner } }, 2)
      local function all_of(t) return t.x == t.y and t.text == tostring(t.x // 1 | 0):rep(100) end
      a[2] = { { 7, ("7"):rep(100), 7 }, 3, { 7, ("7"):rep(100), 7 } }
      for _ = 1, 20 do
        local started = mp.Event()
        local p = P(function()
          for i = 1, math.huge do
            a[2].b = { x = i, text = tostring(i):rep(100), y = i }
            a[2].b:set{ y = i, x = i }
            started:set()
          end
        end)
        started:wait()
        for _ = 1, 20 do assert(all_of(a[2].b:get())) end
        kill(p.pid)
        p:join()
        assert(all_of(a[2].b:get()))
        eq({ a[2].a.x, a[2].n, a[2].a:get().y }, { 7.0, 3, 7.0 })
        assert(all_of(a[2]:get().a))
      end]]
  end)

  it("waits for the lock of its array", function()
    ok[[
      local a = mp.Array({ { "n", "i" }, { "at", { { "x", "d" }, { "y", "d" } } } }, 1)
      local held, go, done = mp.Event(), mp.Event(), {}
      local p = P(function()
        local _ <close> = a:guard()
        held:set()
        go:wait()
        a[1].at = { 1, 2 }
      end)
      held:wait()
      local tasks = {
        mp.co.spawn(function() done[#done + 1] = a[1].at:get().y end),
        mp.co.spawn(function() a[1].at:set{ x = 5 } done[#done + 1] = "set" end),
      }
      for _ = 1, 10 do mp.co.sleep(0) end
      eq(done, {})
      go:set()
      mp.co.joinall(tasks)
      assert(#done == 2 and (done[1] == 2.0 or done[2] == 2.0))
      eq(a[1].at:get(), { x = 5.0, y = 2.0 })
      all{ p }]]
  end)
end)
