local support = require "spec.support"
local ok, misuse = support.ok, support.misuse
local mp = require "mpengine"

describe("a list", function()
  it("is used as a table", function()
    local l = mp.List{ "a", "b" }
    assert.equal(2, #l)
    assert.equal("a", l[1])
    l[2] = { 2 }
    assert.same({ 2 }, l[2])
    l[#l + 1] = "c"
    assert.same({ "a", { 2 }, "c" }, l:copy())
    assert.is_nil(l[0])
    assert.is_nil(l[4])
    local seen = {}
    for i, v in ipairs(l) do seen[i] = v end
    assert.same({ "a", { 2 }, "c" }, seen)
  end)

  it("cannot be written beyond the next place", function()
    local l = mp.List{ 1 }
    misuse({ "List" }, function() l[3] = 1 end)
    misuse({ "List" }, function() l[0] = 1 end)
    misuse({ "List" }, function() l.x = 1 end)
    assert.same({ 1 }, l:copy())
  end)

  it("appends and extends", function()
    local l = mp.List()
    l:append(1)
    l:extend{ 2, 3 }
    l:extend{}
    assert.same({ 1, 2, 3 }, l:copy())
  end)

  it("inserts", function()
    local l = mp.List{ 1, 2 }
    l:insert(1, 0)
    l:insert(3, 1.5)
    l:insert(5, 9)
    assert.same({ 0, 1, 1.5, 2, 9 }, l:copy())
  end)

  it("pops the last, or one by its index", function()
    local l = mp.List{ 1, 2, 3 }
    assert.equal(3, l:pop())
    assert.equal(1, l:pop(1))
    assert.same({ 2 }, l:copy())
    assert.equal(2, l:pop())
    assert.equal(0, #l)
  end)

  it("inserts and pops at places counted from the end, as Python's", function()
    local l = mp.List{ 1, 2, 3 }
    assert.equal(3, l:pop(-1))
    assert.equal(1, l:pop(-2))
    assert.is_nil(l:pop(-2))
    assert.is_nil(l:pop(2))
    l:insert(-1, "before the last")
    l:insert(-100, "first")
    l:insert(100, "last")
    assert.same({ "first", "before the last", 2, "last" }, l:copy())
    misuse({ "List:pop", "index 0" }, l.pop, l, 0)
    misuse({ "List:insert", "index 0" }, l.insert, l, 0, "x")
    misuse({ "List:insert", "1.5" }, l.insert, l, 1.5, "x")
    assert.is_nil(mp.List():pop(-1))
  end)

  it("is a queue too: the first of many items is popped without moving the others", function()
    ok([[
      local l, t, n = mp.List(), {}, 200000
      for i = 1, n do t[i] = i end
      l:extend(t)
      for i = 1, n do
        assert(l:pop(1) == i)
        if i % 4 == 0 then l:append(n + i) end
      end
      eq(#l, n // 4)
      eq(l[1], n + 4)
      l:insert(1, "first")
      eq(l:pop(1), "first")
      eq(l:pop(), n + n)]], { timeout = 20 })
  end)

  it("is traversed by pairs as it was at the beginning", function()
    local l, seen = mp.List{ "a", false, "c" }, {}
    for i, v in pairs(l) do
      seen[i] = v
      l:pop()
    end
    assert.same({ "a", false, "c" }, seen)
    assert.equal(0, #l)
  end)

  it("removes by value, the first of them", function()
    local l = mp.List{ "a", "b", "a" }
    l:remove("a")
    assert.same({ "b", "a" }, l:copy())
    misuse({ "remove" }, l.remove, l, "z")
    assert.same({ "b", "a" }, l:copy())
  end)

  it("finds an index, or nil", function()
    local l = mp.List{ "a", "b" }
    assert.equal(2, l:index("b"))
    assert.is_nil(l:index("z"))
  end)

  it("sorts, reverses, clears", function()
    local l = mp.List{ 3, 1, 2 }
    l:sort()
    assert.same({ 1, 2, 3 }, l:copy())
    l:sort(function(a, b) return a > b end)
    assert.same({ 3, 2, 1 }, l:copy())
    l:reverse()
    assert.same({ 1, 2, 3 }, l:copy())
    l:clear()
    assert.equal(0, #l)
  end)

  it("stays unchanged when a comparison raises", function()
    local l = mp.List{ 3, "x", 1 }
    assert.is_false(pcall(l.sort, l))
    assert.same({ 3, "x", 1 }, l:copy())
  end)

  it("refuses a value that cannot be sent", function()
    local l = mp.List{ 1 }
    misuse({ "coroutine" }, l.append, l, coroutine.create(print))
    misuse({ "coroutine" }, l.extend, l, { 2, coroutine.create(print) })
    misuse({ "coroutine" }, function() l[1] = coroutine.create(print) end)
    assert.same({ 1 }, l:copy())
  end)

  it("says what it is", function()
    local l = mp.List()
    assert.truthy(tostring(l):find("^mp%.List: 0x"), tostring(l))
    assert.is_true(mp.List{ l }[1] == l)
  end)

  it("loses no append and no pop of several processes", function()
    ok[[
      local l, list, popped = mp.List(), {}, mp.Value("i", 0)
      for i = 1, 4 do
        list[i] = P(function()
          for n = 1, 300 do l:append(i * 1000 + n) end
        end)
      end
      all(list)
      eq(#l, 1200)
      for i = 1, 4 do
        list[i] = P(function()
          for _ = 1, 300 do if l:pop() then popped:add(1) end end
        end)
      end
      all(list)
      eq(popped.value, 1200)
      eq(#l, 0)]]
  end)
end)
