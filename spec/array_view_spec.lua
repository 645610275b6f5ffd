-- Views of arrays, arrays of rows and columns, and calculations with all elements.
local support = require "spec.support"
local ok, misuse = support.ok, support.misuse
local mp = require "mpengine"

local NUMBERS <const> = { "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "f", "d" }
local SIGNED <const> = { "b", "h", "i", "l", "q" }
-- The largest, and the smallest, integer of a type.
local MOST <const> = { b = 127, B = 255, h = 32767, H = 65535, i = 2 ^ 31 - 1 | 0, I = 2 ^ 32 - 1 | 0,
  l = math.maxinteger, q = math.maxinteger }

local function counted(code, n)
  local a = mp.Array(code, n)
  for i = 1, n do a[i] = i end
  return a
end

local function list_of(from, to, step)
  local list = {}
  for i = from, to, step or 1 do list[#list + 1] = i end
  return list
end

describe("a view", function()
  it("has the elements of its range, in every type", function()
    for _, make in ipairs{ mp.Array, mp.RawArray } do
      for _, code in ipairs(NUMBERS) do
        local a = make(code, list_of(1, 20))
        local ranges = { { 1, 20 }, { 3, 9 }, { 7, 7 }, { 2, 20, 3 }, { 20, 1, -1 }, { 19, 2, -4 }, { 5, 6, 100 } }
        for _, range in ipairs(ranges) do
          local v = a:view(table.unpack(range))
          local list = list_of(table.unpack(range))
          assert.equal(#list, #v)
          assert.same(list, v:totable())
          for i, x in ipairs(v) do assert.equal(list[i], x) end
          assert.is_nil(v[0])
          assert.is_nil(v[#v + 1])
          misuse({ "ArrayView", "out of range" }, function() v[#v + 1] = 1 end)
        end
      end
    end
    assert.equal("eca", mp.Array("c", "abcde"):view(5, 1, -2):string())
    assert.equal("ö", mp.Array("u", "aöb"):view(2, 2)[1])
  end)

  it("writes the elements of the array, and sees what is written there", function()
    for _, code in ipairs(NUMBERS) do
      local a = counted(code, 10)
      local v, back = a:view(2, 10, 2), a:view(10, 1, -1)
      v[1] = 100
      assert.equal(100, a[2])
      assert.equal(100, back[9])
      a[4] = 50
      assert.equal(50, v[2])
      assert.equal(51, v:add(2, 1))
      assert.equal(51, a[4])
      assert.is_true((v:compare_exchange(2, 51, 9)))
      v:set({ 71, 72 }, 3)
      assert.same({ 1, 100, 3, 9, 5, 71, 7, 72, 9, 10 }, a:totable())
      v:fill(0)
      assert.same({ 1, 0, 3, 0, 5, 0, 7, 0, 9, 0 }, a:totable())
      back:set_string(a:string())
      assert.same({ 0, 9, 0, 7, 0, 5, 0, 3, 0, 1 }, a:totable())
      assert.equal(a:view(1, 10, 3):string(), mp.Array(code, { 0, 7, 0, 1 }):string())
    end
  end)

  it("that begins anywhere is filled and set to its ends, and not beyond", function()
    for _, code in ipairs{ "b", "h", "f", "q" } do
      for from = 1, 20 do
        for n = 0, 40, 3 do
          local a = mp.Array(code, 64)
          a:view(from, from + n - 1):fill(7)
          for i = 1, 64 do assert.equal(i >= from and i < from + n and 7 or 0, a[i]) end
        end
      end
    end
  end)

  it("of a view is one of the array", function()
    local a = counted("i", 100)
    local v = a:view(10, 90, 2):view(30, 3, -3):view(2, 8, 3)
    assert.same({ 62, 44, 26 }, v:totable())
    v[2] = -1
    assert.equal(-1, a[44])
    assert.is_true(v:get_lock() == a:get_lock())
  end)

  it("may be empty", function()
    local a = counted("d", 3)
    for _, v in ipairs{ a:view(1, 0), a:view(4, 3), a:view(2, 1), a:view(1, 3, -1), mp.Array("d", 0):view() } do
      assert.equal(0, #v)
      assert.same({}, v:totable())
      assert.equal("", v:string())
      assert.equal(0.0, v:sum())
      assert.equal(0.0, v:dot(v))
      assert.is_nil(v:min())
      assert.is_nil(v:max())
      v:fill(1) v:scale(2) v:axpy(2, v)
      assert.equal(0, #v:view())
    end
    assert.same({ 1, 2, 3 }, a:totable())
  end)

  it("outside of the array is refused", function()
    local a = counted("i", 5)
    for _, range in ipairs{ { 0, 3 }, { 1, 6 }, { 6, 6 }, { 7, 6 }, { 5, 0, -1 }, { -1 }, { 1, math.maxinteger },
      { math.mininteger, math.maxinteger }, { math.maxinteger, math.mininteger, -1 } } do
      misuse({ "Array:view", "from 1 to 5" }, a.view, a, table.unpack(range))
    end
    misuse({ "Array:view", "step" }, a.view, a, 1, 2, 0)
    misuse({ "Array:view", "i must be an integer" }, a.view, a, "1")
    misuse({ "Array:view", "j must be an integer" }, a.view, a, 1, 2.5)
    assert.equal(1, #a:view(5, 5, math.mininteger))
    assert.equal(1, #a:view(1, 5, math.maxinteger))
  end)

  it("has the lock of its array, and none of a RawArray", function()
    local a = mp.Array("i", 3)
    local v = a:view(1, 2)
    do
      local _ <close> = v:guard()
      assert.is_true(a:get_lock():locked())
    end
    v:acquire()
    assert.is_true(a:get_lock():locked())
    a:release()
    local raw = mp.RawArray("i", 3):view()
    for _, name in ipairs{ "get_lock", "guard", "acquire", "release" } do
      misuse({ "RawArray", "no lock" }, raw[name], raw)
    end
  end)

  it("is taken where a list is, its own array included", function()
    local a = counted("i", 6)
    assert.same({ 6, 4, 2 }, mp.Array("q", a:view(6, 1, -2)):totable())
    a:set(a:view(1, 5), 2)
    assert.same({ 1, 1, 2, 3, 4, 5 }, a:totable())
    assert.equal(6, #mp.List(a:view()))
    local pool <close> = mp.Pool(1)
    assert.same({ 5.0, 4.0 }, pool:map(math.abs, mp.Array("d", { -5, 0, -4 }):view(1, 3, 2)))
  end)

  it("keeps the array, and is the same one in another process", function()
    ok[[
      local there, back = mp.Queue(), mp.Queue()
      local v, d = mp.Array("d", 100000):view(99999, 1, -2), mp.Dict()
      collectgarbage() collectgarbage()
      v[1] = 41
      local dies = P(function()
        local v = there:get()
        back:put(#v:view(2, 5))
        there:get()
      end)
      there:put(v)
      eq(back:get(), 4)
      kill(dies.pid) dies:join()
      local p = P(function()
        local v, d = table.unpack(there:get())
        v[1], v[2] = v[1] + 1, 7
        d.v = v:view(2, 3)
        back:put(v)
      end)
      there:put({ v, d })
      local same = back:get()
      all{ p }
      assert(same == v)
      eq(v[1], 42.0)
      same, v = nil, nil
      collectgarbage() collectgarbage()
      local held = mp.Array("d", 100000)
      held:fill(9)
      eq(d.v[1], 7.0)
      eq(#d.v, 2)]]
  end)

  it("is freed with its array, with no more memory after many", function()
    ok[[
      local function round()
        local a = mp.Array("d", 10000)
        for i = 1, 20 do a:view(i, 5000):view(2, 100, i)[1] = i end
        local m = mp.Array{ type = "i", rows = 10, cols = 10 }
        for i = 1, 10 do m:row(i):fill(i) m:col(i):sum() end
      end
      for _ = 1, 20 do round() end
      collectgarbage() collectgarbage()
      local before = mp.stats()
      for _ = 1, 300 do round() end
      collectgarbage() collectgarbage()
      mp.Array("d", 1)
      local after = mp.stats()
      assert(after.arena.used < before.arena.used + 2 * 1024 * 1024, before.arena.used .. " -> " .. after.arena.used)]]
  end)
end)

describe("an array of rows and columns", function()
  it("is made by its constructor or from another array", function()
    local m = mp.Array{ type = "d", rows = 2, cols = 3 }
    assert.same({ 2, 3 }, { m:shape() })
    assert.equal(6, #m)
    local r = mp.RawArray{ type = "i", size = { 1, 2, 3, 4, 5, 6 }, rows = 3, cols = 2, name = "grid" }
    assert.same({ 3, 4 }, r:row(2):totable())
    assert.truthy(tostring(r):find("grid", 1, true))
    local w = r:reshape(2, 3)
    assert.same({ 2, 3 }, { w:shape() })
    assert.same({ 4, 5, 6 }, w:row(2):totable())
    assert.same({ 2, 5 }, w:col(2):totable())
    w:set(2, 3, 60)
    assert.equal(60, r:get(3, 2))
    assert.same({ 6 }, { w:reshape(6):shape() })
    assert.same({ 2, 1 }, { r:row(1):reshape(2, 1):shape() })
  end)

  it("of a view with a step has the elements of the view", function()
    local m = counted("q", 24):view(24, 2, -2):reshape(3, 4)
    assert.same({ 24, 22, 20, 18 }, m:row(1):totable())
    assert.same({ 22, 14, 6 }, m:col(2):totable())
    assert.equal(8, m:get(3, 1))
    m:col(4):fill(0)
    assert.equal(0, m:get(2, 4))
    assert.equal(24 + 22 + 20, m:row(1):sum())
  end)

  it("reads nil outside, and is not written there", function()
    local m = mp.Array{ type = "i", rows = 2, cols = 3 }
    for _, at in ipairs{ { 0, 1 }, { 1, 0 }, { 3, 1 }, { 1, 4 }, { -1, 1 }, { math.mininteger, math.maxinteger } } do
      assert.is_nil(m:get(at[1], at[2]))
      misuse({ "Array:set", "from 1 to" }, m.set, m, at[1], at[2], 5)
    end
    misuse({ "Array:row", "from 1 to 2" }, m.row, m, 3)
    misuse({ "Array:col", "from 1 to 3" }, m.col, m, 4)
    misuse({ "Array:set", "range" }, m.set, m, 1, 1, 1.5)
    misuse({ "Array:get", "j must be an integer" }, m.get, m, 1)
    assert.equal(0, m:sum())
    local none = mp.Array{ type = "i", rows = 0, cols = 3 }
    assert.same({ 0, 3 }, { none:shape() })
    assert.equal(0, #none:col(3))
    assert.is_nil(none:get(1, 1))
  end)

  it("has the number of elements that its shape says", function()
    local a = mp.Array("i", 6)
    for _, shape in ipairs{ { 2, 2 }, { 7 }, { -2, -3 }, { 6, 0 }, { math.maxinteger, 3 } } do
      misuse({ "Array:reshape", "6 elements" }, a.reshape, a, table.unpack(shape))
    end
    misuse({ "Array:reshape", "rows" }, a.reshape, a)
    misuse({ "Array:row", "reshape" }, a.row, a, 1)
    misuse({ "Array:set", "reshape" }, a.set, a, 1, 1, 1)
    misuse({ "Array", "5 elements", "2 rows of 3" }, mp.Array, { type = "i", size = 5, rows = 2, cols = 3 })
    misuse({ "Array", "cols" }, mp.Array, { type = "i", rows = 2 })
    misuse({ "Array", "rows" }, mp.Array, { type = "i", cols = 2 })
    misuse({ "Array", "cols" }, mp.Array, { type = "i", rows = 2, cols = 0 })
    misuse({ "Array", "exhausted" }, mp.Array, { type = "i", rows = math.maxinteger, cols = 5 })
  end)

  it("is sent with its shape", function()
    ok[[
      local m = mp.Array{ type = "d", rows = 100, cols = 50 }
      local w = m:reshape(50, 100)
      local list = {}
      for k = 1, 2 do
        list[k] = P(function()
          eq(select("#", m:shape()), 2)
          for i = k, 100, 2 do m:row(i):fill(i) end
          eq({ w:shape() }, { 50, 100 })
        end)
      end
      all(list)
      for j = 1, 50 do eq(m:col(j):sum(), 5050.0) end
      eq(w:get(1, 51), 2.0)]]
  end)
end)

describe("a calculation", function()
  -- Lengths around those that the loops treat apart.
  local LENGTHS <const> = { 1, 2, 15, 16, 17, 100, 1023, 1024, 1025, 5000 }

  it("has the result of a loop, in every type and at every length", function()
    for _, code in ipairs(NUMBERS) do
      for _, n in ipairs(LENGTHS) do
        local a, b = mp.Array(code, 2 * n), mp.RawArray(code, n)
        local sum, dot, least, most = 0, 0, math.huge, -math.huge
        for i = 1, n do
          local x, y = (i * 7) % 11 + 1, (i * 5) % 13
          a[2 * i - 1], a[2 * i], b[n - i + 1] = x, 100, y
          sum, dot, least, most = sum + x, dot + x * y, math.min(least, x), math.max(most, x)
        end
        local v, w = a:view(1, 2 * n, 2), b:view(n, 1, -1)
        local dense = mp.Array(code, v)
        for _, x in ipairs{ v, dense } do
          assert.equal(sum, x:sum())
          assert.equal(dot, x:dot(w))
          assert.equal(least, x:min())
          assert.equal(most, x:max())
          assert.equal(math.type(a[1]), math.type(x:sum()))
          x:scale(2)
          x:axpy(3, w)
          for i = 1, n do assert.equal(((i * 7) % 11 + 1) * 2 + 3 * ((i * 5) % 13), x[i]) end
        end
        for i = 1, n do assert.equal(100, a[2 * i]) end
      end
    end
  end)

  it("finds the least and the greatest at any place", function()
    for _, code in ipairs(NUMBERS) do
      local a = mp.Array(code, 1100)
      for _, at in ipairs{ 1, 2, 16, 17, 1024, 1025, 1100 } do
        a:fill(5)
        a[at] = 9
        assert.equal(9, a:max())
        a[at] = 2
        assert.equal(2, a:min())
        assert.equal(5, a:max())
      end
    end
    for _, code in ipairs{ "L", "Q" } do
      local a = mp.Array(code, { 1, -1, 5 })
      assert.equal(-1, a:max())
      assert.equal(1, a:min())
    end
  end)

  it("sums integers as Lua does", function()
    local a = mp.Array("q", { math.maxinteger, 1, 5 })
    assert.equal(math.mininteger + 5, a:sum())
    assert.equal(4, mp.Array("Q", { -1, 5 }):sum())
    assert.equal(3 * math.maxinteger + 1, mp.Array("q", { math.maxinteger, 1 }):dot(mp.Array("q", { 3, 1 })))
    local b = mp.Array("B", 3000)
    b:fill(255)
    assert.equal(255 * 255 * 3000, b:dot(b))
    local h = mp.Array("I", 2000)
    h:fill(4294967295)
    assert.equal(4294967295 * 2000, h:sum())
    assert.equal(4294967295 * 4294967295 * 2000, h:dot(h))
  end)

  it("adds many floats with a small error", function()
    for _, code in ipairs{ "d", "f" } do
      local a = mp.Array(code, 300000)
      a:fill(0.1)
      local exact = a[1] * 300000
      assert.is_true(math.abs(a:sum() - exact) < exact * 1e-14)
      assert.equal(a:sum(), a:view(300000, 1, -1):sum())
    end
  end)

  it("has NaN when there is one, and keeps infinities", function()
    for _, code in ipairs{ "f", "d" } do
      for _, at in ipairs{ 1, 7, 16, 33, 1030, 1100 } do
        local a = mp.Array(code, 1100)
        a[at] = math.huge
        assert.equal(math.huge, a:sum())
        assert.equal(math.huge, a:max())
        assert.equal(0.0, a:min())
        a:scale(-2)
        assert.equal(-math.huge, a:min())
        a[at] = 0 / 0
        for _, name in ipairs{ "sum", "min", "max" } do
          local x = a[name](a)
          assert.is_true(x ~= x, name)
        end
        a:scale(3)
        a:axpy(2, a)
        assert.is_true(a[at] ~= a[at])
      end
    end
  end)

  it("that does not fit is an error and changes nothing", function()
    for code, most in pairs(MOST) do
      for _, at in ipairs{ 1, 900, 2000 } do
        local a, x = mp.Array(code, 2000), mp.Array(code, 2000)
        a[at] = most // 2 + 1
        a[1999] = 3
        misuse({ "Array:scale", "does not fit type '" .. code .. "'" }, a.scale, a, 2)
        x[at] = most // 2
        a:axpy(1, x)
        assert.equal(most, a[at])
        misuse({ "Array:axpy", "does not fit" }, a.axpy, a, 1, x)
        misuse({ "Array:axpy", "does not fit" }, a.axpy, a, math.maxinteger, x)
        assert.equal(most, a[at])
        assert.equal(3, a[1999])
        a:axpy(-1, x)
        assert.equal(most // 2 + 1, a[at])
      end
    end
    for _, code in ipairs(SIGNED) do
      local a = mp.Array(code, { -MOST[code] - 1, 1 })
      misuse({ "does not fit" }, a.scale, a, -1)
      a:axpy(1, mp.Array(code, { 1, 1 }))
      a:scale(-1)
      assert.same({ MOST[code], -2 }, a:totable())
    end
    for _, code in ipairs{ "B", "H", "I", "L", "Q" } do
      local a = mp.Array(code, { 5, 0 })
      misuse({ "does not fit" }, a.scale, a, -1)
      misuse({ "does not fit" }, a.axpy, a, -2, a)
      a:axpy(-1, a)
      a:scale(-1)
      assert.same({ 0, 0 }, a:totable())
    end
    local big = mp.Array("Q", { math.maxinteger, 1 })
    big:scale(2)
    assert.same({ -2, 2 }, big:totable())
    misuse({ "does not fit" }, big.scale, big, 2)
    local f = mp.Array("f", { 1, 2e38, 3 })
    misuse({ "Array:scale", "'f'" }, f.scale, f, 2)
    misuse({ "Array:axpy", "'f'" }, f.axpy, f, 1, f)
    assert.equal(1.0, f[1])
    local d = mp.Array("d", { 1e308 })
    d:scale(10)
    assert.equal(math.huge, d[1])
  end)

  it("takes a factor and an array that fit the type", function()
    local a, d = mp.Array("i", { 1, 2 }), mp.Array("d", { 1, 2 })
    a:scale(2.0)
    d:scale(0.5)
    d:axpy(1, d)
    assert.same({ 2, 4 }, a:totable())
    assert.same({ 1, 2 }, d:totable())
    misuse({ "Array:scale", "integer", "1.5" }, a.scale, a, 1.5)
    misuse({ "Array:scale", "number" }, d.scale, d, "2")
    misuse({ "Array:axpy", "argument #2", "table" }, d.axpy, d, 1, { 1, 2 })
    misuse({ "Array:axpy", "type 'd'", "'i'" }, d.axpy, d, 1, a)
    misuse({ "Array:dot", "2 elements", "3" }, d.dot, d, mp.Array("d", 3))
    misuse({ "Array:dot", "argument #1", "no value" }, d.dot, d)
    for _, code in ipairs{ "c", "u" } do
      local text = mp.Array(code, "abc")
      for _, name in ipairs{ "sum", "min", "max", "dot", "scale", "axpy" } do
        misuse({ "Array:" .. name, "not numbers" }, text[name], text, 1)
      end
    end
  end)

  it("reads x as it was when it overlaps", function()
    for _, code in ipairs{ "d", "i" } do
      local a = counted(code, 3000)
      a:view(2, 3000):axpy(1, a:view(1, 2999))
      for i = 2, 3000 do assert.equal(2 * i - 1, a[i]) end
      a = counted(code, 3000)
      a:axpy(1, a:view(3000, 1, -1))
      for i = 1, 3000 do assert.equal(3001, a[i]) end
    end
  end)
end)
