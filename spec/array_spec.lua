local support = require "spec.support"
local ok, misuse = support.ok, support.misuse
local mp = require "mpengine"

-- code, the smallest, the largest
local INTEGERS = {
  { "b", -128, 127 }, { "B", 0, 255 },
  { "h", -32768, 32767 }, { "H", 0, 65535 },
  { "i", -2147483648, 2147483647 }, { "I", 0, 4294967295 },
  { "l", math.mininteger, math.maxinteger }, { "q", math.mininteger, math.maxinteger },
}

describe("an array", function()
  it("has the values of the list it was made of", function()
    local a = mp.Array("i", { 1, 2, 3 })
    assert.equal(3, #a)
    assert.same({ 1, 2, 3 }, a:totable())
    assert.equal("integer", math.type(a[1]))
  end)

  it("of a size is zeroed", function()
    assert.same({ 0, 0, 0, 0 }, mp.Array("i", 4):totable())
    local d = mp.Array("d", 1000)
    assert.equal(1000, #d)
    for i = 1, 1000 do assert.equal(0.0, d[i]) end
    assert.equal("float", math.type(d[1]))
    assert.equal("\0\0", mp.Array("c", 2):string())
  end)

  it("is filled whole, whatever its length", function()
    for _, code in ipairs{ "b", "h", "f", "q" } do
      for n = 0, 70 do
        local a, guard = mp.Array(code, n), mp.Array(code, 8)
        a:fill(-7)
        for i = 1, n do assert.equal(-7, a[i]) end
        assert.same({ 0, 0, 0, 0, 0, 0, 0, 0 }, guard:totable())
      end
    end
  end)

  it("is set from a table of any length, all or nothing", function()
    local a = mp.Array("i", 200)
    for _, n in ipairs{ 1, 63, 64, 65, 127, 128, 129, 200 } do
      local list, before = {}, a:totable()
      for i = 1, n do list[i] = n + i end
      for _, at in ipairs{ 1, n } do
        local good = list[at]
        list[at] = "x"
        misuse({ "set", "element " .. at }, a.set, a, list)
        list[at] = good
      end
      assert.same(before, a:totable())
      a:set(list)
      assert.same(list, a:totable(1, n))
    end
    a:set(setmetatable({}, { __len = function() return 2 end, __index = function(_, i) return -i end }))
    assert.same({ -1, -2 }, a:totable(1, 2))
  end)

  it("may be empty", function()
    for _, init in ipairs{ 0, {} } do
      local a = mp.Array("i", init)
      assert.equal(0, #a)
      assert.same({}, a:totable())
      assert.is_nil(a[1])
    end
    assert.equal("", mp.Array("c", ""):string())
  end)

  it("is read and written by index", function()
    local a = mp.Array("i", 3)
    a[1], a[2], a[3] = 10, 20, 30
    assert.same({ 10, 20, 30 }, { a[1], a[2], a[3] })
  end)

  it("outside 1..#a reads nil", function()
    local a = mp.Array("i", { 1, 2 })
    for _, i in ipairs{ 0, -1, 3, 1.5, math.maxinteger, math.mininteger, 2 ^ 53, math.huge } do
      assert.is_nil(a[i])
    end
  end)

  it("outside 1..#a cannot be written", function()
    local a = mp.Array("i", { 1, 2 })
    for _, i in ipairs{ 0, -1, 3, 1.5, math.maxinteger, "x" } do
      misuse({ "Array" }, function() a[i] = 1 end)
    end
    assert.same({ 1, 2 }, a:totable())
  end)

  it("takes a float without a fraction as an index", function()
    local a = mp.Array("i", { 1, 2 })
    a[2.0] = 5
    assert.equal(5, a[2.0])
  end)

  it("is walked by ipairs", function()
    local seen = {}
    for i, v in ipairs(mp.Array("h", { 5, 6, 7 })) do seen[i] = v end
    assert.same({ 5, 6, 7 }, seen)
  end)

  it("says what it is", function()
    local a = mp.Array("i", 3)
    assert.truthy(tostring(a):find("^mp%.Array: 0x"), tostring(a))
    assert.equal("mp.Array", getmetatable(a).__name)
    assert.is_true(a == a)
    assert.is_false(a == mp.Array("i", 3))
  end)

  for _, row in ipairs(INTEGERS) do
    local code, low, high = table.unpack(row)
    it(("of '%s' holds %d to %d, and nothing beyond"):format(code, low, high), function()
      local a = mp.Array(code, { low, high })
      assert.same({ low, high }, a:totable())
      a[1] = 1
      local wrong = { 1.5, 0 / 0, math.huge, -math.huge, 2.0 ^ 70, "1", true, {} }
      if low > math.mininteger then
        table.move({ low - 1, high + 1, math.mininteger, math.maxinteger }, 1, 4, #wrong + 1, wrong)
      end
      for _, v in ipairs(wrong) do
        misuse({ "Array", { "'" .. code .. "'", "range", "integer", "number" } }, function() a[1] = v end)
        misuse({ "Array" }, mp.Array, code, { 1, v })
      end
      misuse({ "Array" }, function() a[1] = nil end)
      assert.same({ 1, high }, a:totable())
      a[1] = 2.0
      assert.equal(2, a[1])
      assert.equal("integer", math.type(a[1]))
    end)
  end

  for _, code in ipairs{ "L", "Q" } do
    it(("of '%s' takes and gives the two's complement above math.maxinteger"):format(code), function()
      local a = mp.Array(code, { 0, math.maxinteger, -1, math.mininteger })
      assert.same({ 0, math.maxinteger, -1, math.mininteger }, a:totable())
      misuse({ "Array" }, function() a[1] = 1.5 end)
      misuse({ "Array" }, function() a[1] = 2.0 ^ 65 end)
      assert.equal(0, a[1])
    end)
  end

  it("of 'd' holds every float exactly", function()
    local a = mp.Array("d", 1)
    for _, v in ipairs{ 0.1, -1e308, 5e-324, math.huge, -math.huge, 3 } do
      a[1] = v
      assert.equal(v, a[1])
      assert.equal("float", math.type(a[1]))
    end
    a[1] = -0.0
    assert.equal(-math.huge, 1 / a[1])
    a[1] = 0 / 0
    assert.is_true(a[1] ~= a[1])
  end)

  it("of 'f' rounds", function()
    local a = mp.Array("f", { 0.1, 0.5, math.huge })
    assert.equal(string.unpack("f", string.pack("f", 0.1)), a[1])
    assert.equal(0.5, a[2])
    assert.equal(math.huge, a[3])
  end)

  it("of 'd' and 'f' takes no string", function()
    for _, code in ipairs{ "d", "f" } do
      local a = mp.Array(code, { 1 })
      for _, v in ipairs{ "1", true, {} } do
        misuse({ "Array", "number" }, function() a[1] = v end)
      end
      assert.equal(1.0, a[1])
    end
  end)

  it("of 'c' holds 1-byte strings", function()
    local a = mp.Array("c", "te\0t")
    assert.equal(4, #a)
    assert.equal("e", a[2])
    assert.equal("\0", a[3])
    a[1] = "\255"
    assert.equal("\255e\0t", a:string())
    for _, v in ipairs{ "", "ab", 65, true } do
      misuse({ "Array" }, function() a[1] = v end)
    end
    assert.equal("\255", a[1])
    assert.same({ "a", "b" }, mp.Array("c", { "a", "b" }):totable())
  end)

  it("of 'u' holds single code points in UTF-8", function()
    local a = mp.Array("u", { "a", "é", "\u{20AC}", "\u{1F600}" })
    assert.same({ "a", "é", "\u{20AC}", "\u{1F600}" }, a:totable())
    for _, v in ipairs{ "", "ab", "\255", 65 } do
      misuse({ "Array" }, function() a[1] = v end)
    end
    assert.equal("a", a[1])
  end)

  it("gives a part of itself as a table", function()
    local a = mp.Array("i", { 1, 2, 3, 4, 5 })
    assert.same({ 2, 3, 4, 5 }, a:totable(2))
    assert.same({ 2, 3 }, a:totable(2, 3))
    assert.same({}, a:totable(4, 3))
  end)

  it("takes a list, at a place", function()
    local a = mp.Array("i", 5)
    a:set({ 1, 2 })
    a:set({ 4, 5 }, 4)
    assert.same({ 1, 2, 0, 4, 5 }, a:totable())
    a:set({})
    assert.same({ 1, 2, 0, 4, 5 }, a:totable())
  end)

  it("takes no list that does not fit, not even in part", function()
    local a = mp.Array("b", { 1, 2, 3 })
    misuse({ "set" }, a.set, a, { 1, 2, 3, 4 })
    misuse({ "set" }, a.set, a, { 9, 9 }, 3)
    misuse({ "set" }, a.set, a, { 9 }, 0)
    misuse({ "set" }, a.set, a, { 9, 9, 300 })
    misuse({ "set" }, a.set, a, { 9, "x" })
    misuse({ "set" }, a.set, a, 5)
    assert.same({ 1, 2, 3 }, a:totable())
  end)

  it("is filled", function()
    local a = mp.Array("i", 3)
    a:fill(7)
    assert.same({ 7, 7, 7 }, a:totable())
    misuse({ "fill" }, a.fill, a, 1.5)
    assert.same({ 7, 7, 7 }, a:totable())
  end)

  it("gives and takes its bytes", function()
    local c = mp.Array("c", "hello world")
    assert.equal("hello world", c:string())
    assert.equal("world", c:string(7))
    assert.equal("lo", c:string(4, 5))
    c:set_string("HELLO")
    c:set_string("W", 7)
    assert.equal("HELLO World", c:string())
    misuse({ "set_string" }, c.set_string, c, ("x"):rep(12))
    misuse({ "set_string" }, c.set_string, c, "xx", 11)
    assert.equal("HELLO World", c:string())
    local i = mp.Array("i", { 1, -2 })
    assert.equal(string.pack("ii", 1, -2), i:string())
    i:set_string(string.pack("i", 77), 2)
    assert.same({ 1, 77 }, i:totable())
  end)

  it("adds atomically and gives the new value", function()
    local a = mp.Array("i", { 1, 2 })
    assert.equal(11, a:add(1, 10))
    assert.equal(1, a:add(2, -1))
    assert.same({ 11, 1 }, a:totable())
    local d = mp.Array("d", { 0.5 })
    assert.equal(0.75, d:add(1, 0.25))
    misuse({ "add" }, a.add, a, 1, 1.5)
    misuse({ "add" }, a.add, a, 3, 1)
    assert.equal(11, a[1])
  end)

  it("adds nothing when the sum does not fit", function()
    local a = mp.Array("b", { 127 })
    misuse({ "add" }, a.add, a, 1, 1)
    assert.equal(127, a[1])
  end)

  it("exchanges an element when it is what was expected", function()
    local a = mp.Array("i", { 5 })
    assert.is_true((a:compare_exchange(1, 5, 6)))
    assert.same({ false, 6 }, { a:compare_exchange(1, 5, 7) })
    assert.equal(6, a[1])
    local d = mp.Array("d", { 0.5 })
    assert.is_true((d:compare_exchange(1, 0.5, 1.5)))
    assert.equal(1.5, d[1])
  end)

  it("has a lock of its own, an RLock", function()
    local a = mp.Array("i", 1)
    local lock = a:get_lock()
    assert.is_true(lock == a:get_lock())
    assert.is_true((lock:acquire()))
    assert.is_true((lock:acquire()))
    lock:release()
    lock:release()
    do
      local _ <close> = a:guard()
      assert.is_true(lock:locked())
      a[1] = 1
    end
    assert.is_false(lock:locked())
  end)

  it("is written and read by several processes", function()
    ok[[
      local a, list = mp.Array("l", 8), {}
      for i = 1, 8 do
        list[i] = P(function(b) b[i] = i * i end, a)
      end
      all(list)
      eq(a:totable(), { 1, 4, 9, 16, 25, 36, 49, 64 })]]
  end)

  it("loses no addition of several processes", function()
    ok[[
      local a, d, list = mp.Array("q", 2), mp.Array("d", 1), {}
      for i = 1, 4 do
        list[i] = P(function()
          for _ = 1, 5000 do a:add(1, 1) d:add(1, 0.5) end
          for _ = 1, 500 do
            local _ <close> = a:guard()
            a[2] = a[2] + 1
          end
        end)
      end
      all(list)
      eq(a:totable(), { 20000, 2000 })
      eq(d[1], 10000.0)]]
  end)

  it("never shows a torn element", function()
    ok[[
      local a, stop = mp.Array("d", { 1.0 }), mp.Event()
      local x, y = 1.0, string.unpack("d", string.pack("I8", 0x4123456789abcdef))
      a[1] = x
      local p = P(function() while not stop:is_set() do a[1] = x a[1] = y end end)
      for _ = 1, 50000 do
        local v = a[1]
        assert(v == x or v == y)
      end
      stop:set()
      all{ p }]]
  end)

  it("made after a fork can be used by a child that runs already", function()
    ok[[
      local q, done = mp.Queue(), mp.Event()
      local p = P(function()
        for _ = 1, 20 do
          local a = q:get()
          a[#a] = 42
        end
        done:set()
      end)
      local arrays = {}
      for i = 1, 20 do arrays[i] = mp.Array("i", i * 5000) q:put(arrays[i]) end
      done:wait()
      for i = 1, 20 do eq(arrays[i][i * 5000], 42) end
      all{ p }]]
  end)
end)

describe("a value", function()
  it("is read and written", function()
    local v = mp.Value("d", 0.5)
    assert.equal(0.5, v.value)
    v.value = 2
    assert.equal(2.0, v.value)
    assert.equal(0, mp.Value("i").value)
    assert.equal("x", mp.Value("c", "x").value)
  end)

  it("takes only what fits", function()
    local v = mp.Value("b", 1)
    for _, wrong in ipairs{ 128, -129, 1.5, "1", true } do
      misuse({ "Value" }, function() v.value = wrong end)
      misuse({ "Value" }, mp.Value, "b", wrong)
    end
    assert.equal(1, v.value)
    misuse({ "Value", { "type", "code" } }, mp.Value, "z", 1)
  end)

  it("has no other field to assign", function()
    local v = mp.Value("i", 1)
    misuse({ "vaule" }, function() v.vaule = 3 end)
  end)

  it("adds, exchanges, locks", function()
    local v = mp.Value("i", 5)
    assert.equal(8, v:add(3))
    assert.is_true((v:compare_exchange(8, 1)))
    assert.same({ false, 1 }, { v:compare_exchange(8, 2) })
    do
      local _ <close> = v:guard()
      assert.is_true(v:get_lock():locked())
    end
    assert.is_false(v:get_lock():locked())
    assert.truthy(tostring(v):find("^mp%.Value: 0x"), tostring(v))
  end)

  it("loses no addition under its lock", function()
    ok[[
      local v, list = mp.Value("i", 0), {}
      for i = 1, 4 do
        list[i] = P(function()
          for _ = 1, 1000 do
            local _ <close> = v:guard()
            v.value = v.value + 1
          end
        end)
      end
      all(list)
      eq(v.value, 4000)]]
  end)
end)

describe("a raw array and a raw value #later", function()
  it("are the same without a lock", function()
    local a, v = mp.RawArray("i", { 1, 2 }), mp.RawValue("d", 1.5)
    a[1] = 5
    v.value = 2.5
    assert.same({ 5, 2 }, a:totable())
    assert.equal(2.5, v.value)
    assert.equal(6, a:add(1, 1))
    assert.is_false(pcall(function() a:get_lock() end))
    assert.is_false(pcall(function() v:guard() end))
  end)
end)
