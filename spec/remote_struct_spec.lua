-- Arrays of structs: the same assertions for those of a manager of a URL and for local ones.
local redis = require "spec.support.redis"

local ok = redis.scenarios([[
local m = mp.Manager(URL, { namespace = NAMESPACE })
local PLACE = { { "x", "d" }, { "y", "d" } }
local T = mp.Struct{ { "tag", "c" }, { "at", PLACE }, { "h", "h", 3 }, { "name", "s5" }, { "id", "q" } }
local function item(i)
  return { tag = "t", at = { x = i + 0.5, y = -i + 0.0 }, h = { i, 2, 3 }, name = "n" .. i, id = i * 100 }
end
-- Makers of both kinds, under names of their own.
local n = 0
local function name() n = n + 1 return "o" .. n end
local kinds = {
  { Array = mp.Array, Value = mp.Value },
  { Array = function(...) return m:Array(name(), ...) end, Value = function(...) return m:Value(name(), ...) end },
}
]], setup, teardown)

local function both(code) return ok("for _, kind in ipairs(kinds) do\n" .. code .. "\nend") end

describe("an array of structs, local or remote,", function()
  it("has elements and fields", function()
    both [[
      local a = kind.Array(T, 3)
      eq({ #a, a[1].id, a[3].name, a[1].at.x, #a[1].h, a[4] }, { 3, 0, "", 0.0, 3 })
      a[2].id = 7
      a[2].name = "abc"
      a[2].at.y = 2.5
      a[2].h[3] = 9
      a[2].h = { 1, 2, a[2].h[3] }
      eq(a[2]:get(), { tag = "\0", at = { x = 0.0, y = 2.5 }, h = { 1, 2, 9 }, name = "abc", id = 7 })
      a[1] = item(1)
      a[3] = { "z", { 1, 2 }, { 4, 5, 6 }, "last", 8 }
      a[3].at = a[1].at
      a[3].h = a[1].h
      a[3]:set{ id = 5, name = "" }
      a[3].at:set{ y = 6 }
      a[3]:set{ "q" }
      eq(a[3]:get(), { tag = "q", at = { x = 1.5, y = 6.0 }, h = { 1, 2, 3 }, name = "", id = 5 })
      a[2] = a[1]
      eq(a[2]:get(), item(1))
      eq({ a[2].at:get(), a[2].h:totable(), a[2].h[4], a[2].h[0] }, { { x = 1.5, y = -1.0 }, { 1, 2, 3 } })
      a[2].h:set{ 7, 8, 9 }
      a[2].h[1] = a[2].h[2]
      eq(a[2].h:totable(), { 8, 8, 9 })
      eq({ a[1] == a[1], a[1] == a[2], a[1].at == a[1].at, a[1].h == a[1].h, a[1].h == a[2].h },
        { true, false, true, true, false })
      a[1]:set{}
      eq(a[1]:get(), item(1))]]
  end)

  it("is shown, and gives its fields in their order", function()
    both [[
      local fields = { { "x", "d" }, { "at", PLACE }, { "v", "i", 2 }, { "s", "s3" } }
      local a = kind.Array(fields, { { 1, { 2, 3 }, { 4, 5 }, "s" } })
      local text = tostring(a[1]):gsub("remote%.", "")
      eq(text, "mp.StructRef: {x = 1.0, at = {x = 2.0, y = 3.0}, v = {4, 5}, s = 's'}")
      eq({ (tostring(a[1].at):gsub("remote%.", "")), (tostring(a[1].v):gsub("remote%.", "")) },
        { "mp.StructRef: {x = 2.0, y = 3.0}", "mp.FieldRef: {4, 5}" })
      local seen = {}
      for k, v in pairs(a[1]) do seen[#seen + 1] = k .. " " .. (math.type(v) or type(v)) end
      seen = table.concat(seen, ","):gsub("table", "userdata")
      eq(seen, "x float,at userdata,v userdata,s string")
      for k, v in pairs(a[1]) do if k == "at" then eq(v:get(), { x = 2.0, y = 3.0 }) end end
      local list = {}
      for i, v in ipairs(a[1].v) do list[i] = v end
      eq(list, { 4, 5 })
      for i, r in ipairs(a) do eq({ i, r.s }, { 1, "s" }) end]]
  end)

  it("is set, filled and copied", function()
    both [[
      local a = kind.Array(T, { item(1), item(2), item(3) })
      eq(a:totable(), { item(1), item(2), item(3) })
      a:set({ item(4), a[1] }, 2)
      eq(a:totable(2), { item(4), item(1) })
      a:fill(a[2])
      eq(a:totable(), { item(4), item(4), item(4) })
      a:fill(item(5))
      eq(a:totable(3, 9), { item(5) })
      local b = kind.Array(T, 3)
      b:set_string(a:string())
      eq(b[2]:get(), item(5))
      b:set(mp.Array(T, { item(6) }))
      eq(b[1]:get(), item(6))
      local bytes = b:string(1, 1)
      b:set_string(bytes, 3)
      eq({ #bytes, b[3]:get() }, { 48, item(6) })
      eq(kind.Array({ { "x", "d" } }, mp.List{ { 4 } }):totable(), { { x = 4.0 } })
      eq(kind.Array({ type = T, size = 2 })[2].id, 0)
      eq(b:acquire(), true)
      do
        local _ <close> = b:guard()
        b[1].id = 9
        eq(b:get_lock():locked(), true)
      end
      b:release()
      eq({ b[1].id, b:get_lock():locked() }, { 9, false })]]
  end)

  it("has values of them", function()
    both [[
      local v = kind.Value(T, item(1))
      v.value.id = v.value.id + 1
      v.value.at.x = 8
      eq({ v.value.id, v.value.at:get() }, { 101, { x = 8.0, y = -1.0 } })
      v.value = item(2)
      v.value:set{ name = "x" }
      eq({ v.value.name, v.value.id }, { "x", 200 })
      eq(kind.Value{ { "n", "i" } }.value:get(), { n = 0 })
      raises("Value: field 'id'", function() v.value.id = 1.5 end)
      raises("Value: value: field 'tag'", function() v.value = { at = { 1, 2 } } end)
      raises("structs", v.add, v, 1)
      raises("structs", v.compare_exchange, v, 1, 2)]]
  end)

  it("names the field that does not fit, and nothing has changed", function()
    both [[
      local a = kind.Array(T, { item(1), item(2) })
      local before = a:string()
      local function case(f, ...)
        local ok, why = pcall(f)
        if ok then error("no error for " .. table.concat({ ... }, " "), 2) end
        for _, text in ipairs{ ... } do
          if not tostring(why):find(text, 1, true) then error(("%s: no '%s'"):format(why, text), 2) end
        end
      end
      local function with(changes)
        local t = item(3)
        for k, v in pairs(changes) do t[k] = v end
        return t
      end
      case(function() a[2].id = 1.5 end, "Array: element 2: field 'id' of type 'q'", "1.5")
      case(function() a[2].at.x = "s" end, "Array: element 2: field 'at': field 'x' of type 'd'")
      case(function() a[2].at = { 1 } end, "Array: element 2: field 'at': field 'y'", "nil")
      case(function() a[2].at = 5 end, "Array: element 2: field 'at' must be a table of fields {x: d", "got number")
      case(function() a[2].h = { 1, 2 } end, "Array: element 2: field 'h' must be a list of 3 elements")
      case(function() a[2].h[4] = 1 end, "Array: element 2: field 'h': index 4", "from 1 to 3")
      case(function() a[2].h.x = 1 end, "Array: element 2: field 'h': index x", "from 1 to 3")
      case(function() a[2].h[2] = 70000 end, "Array: element 2: field 'h': element 2", "70000")
      case(function() a[2].name = "abcdef" end, "Array: element 2: field 'name'", "at most 5 bytes")
      case(function() a[2].z = 1 end, "Array: element 2: there is no field 'z', only those of {tag: c")
      case(function() return a[2].z end, "Array: element 2: there is no field 'z'")
      case(function() return a[2].at[1] end, "Array: element 2: field 'at': there is no field '1'")
      case(function() a[2] = with{ h = 1 } end, "Array: element 2: field 'h' must be a list")
      case(function() a[2] = 7 end, "Array: element 2 must be a table of fields {tag: c", "got number")
      case(function() a[3] = item(1) end, "Array", "3", "out of range")
      case(function() a[1]:set{ id = 1, z = 2 } end, "StructRef:set: argument #1: there is no field 'z'")
      case(function() a[1]:set{ id = 1, at = { x = 1 } } end, "StructRef:set: argument #1: field 'at': field 'y'")
      case(function() a[1]:set() end, "StructRef:set: argument #1 must be a table of fields", "nil")
      case(function() a[1].h:set{ 1, 2, "x" } end, "FieldRef:set: field 'h': element 3")
      case(function() a:set({ item(1), with{ id = "x" } }) end, "Array:set: element 2: field 'id'")
      case(function() a:fill(with{ tag = "tt" }) end, "Array:fill: value: field 'tag'", "1 byte")
      case(function() kind.Array(T, { item(1), with{ id = {} } }) end, "Array: element 2: field 'id'")
      case(function() kind.Array({ { "x", "zz" } }, 1) end, "Array: field 'x': the type must be one of")
      case(function() kind.Array({ { "x", PLACE, 2 } }, 1) end, "Array: field 'x': a struct cannot")
      for _, method in ipairs{ "sum", "min", "max", "dot", "add", "compare_exchange" } do
        case(function() a[method](a, 1, 2, 3) end, "Array:" .. method, "structs")
      end
      case(function() a[1].get(5) end, "StructRef", "expected")
      case(function() a[1].h.totable(a) end, "FieldRef", "expected")
      eq(a:string(), before)]]
  end)
end)

describe("an array of structs of a manager of a URL", function()
  it("is the same one by its name, and has the fields that it was made with", function()
    ok [[
      local a = m:Array("a", T, { item(1) })
      eq(m:Array("a")[1]:get(), item(1))
      eq(m:Array("a", T, 1)[1] == a[1], true)
      raises("exists with other parameters", function() m:Array("a", PLACE, 1) end)
      raises("an array of a manager of a URL does not have this", a.field, a, "id")
      raises({ "StructRef", "store the array, or a copy of it" }, function() m:dict("d").x = a[1] end)
      raises({ "FieldRef", "store the array, or a copy of it" }, function() m:dict("d").x = { a[1].h } end)
      m:dict("d").x = a
      eq(m:dict("d").x[1].id, 100)
      all{ P(function(mine) mine[1].id = 4 end, a) }
      eq(a[1].id, 4)]]
  end)

  it("is never torn: an element is one of those that processes write", function()
    ok [[
      local a = m:Array("a", { { "x", "i" }, { "at", { { "y", "i" }, { "v", "i", 20 } } } }, 1)
      local function element(i)
        local v = {}
        for k = 1, 20 do v[k] = i end
        return { x = i, at = { y = i, v = v } }
      end
      local list = {}
      for i = 1, 2 do
        list[i] = P(function()
          for _ = 1, 100 do
            a[1] = element(i)
            a[1]:set(element(i + 2))
            a[1].at = element(i + 2).at
          end
        end)
      end
      for _ = 1, 100 do
        local t = a[1]:get()
        for k = 1, 20 do eq(t.at.v[k], t.at.y) end
      end
      all(list)]]
  end)
end)
