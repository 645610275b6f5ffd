-- Facts about every kind of shared object. The kinds are asked of the library, so that a new one is
-- tested without a line here.
local support = require "spec.support"
local ok = support.ok

-- made: the public name and an object of each function that makes one. A maker is tried without
-- arguments, with a number, and with a type code and a number.
local MADE = [==[
  local core = require "mpengine.core"
  local args = { {}, { 2 }, { "i", 2 } }
  local function make(name)
    for _, list in ipairs(args) do
      local made, object = pcall(mp[name], table.unpack(list))
      if made then return object, list end
    end
    error("no arguments make a " .. name)
  end
  local made = {}
  for name in pairs(core.makers) do
    local object, list = make(name)
    made[#made + 1] = { name = name, object = object, args = list, kind = tostring(object):match("^mp%.(%w+): 0x%x+") }
    assert(made[#made].kind, name .. ": " .. tostring(object))
  end
  assert(#made >= 17)
  local function kinds_of_stats()
    local kinds = {}
    for _, object in ipairs(mp.stats().objects) do kinds[object.handle] = object.kind end
    return kinds
  end
  local function pattern(kind) return "mp." .. kind end
]==]

describe("every kind of shared object", function()
  it("has one name, in its metatable, its text, statistics and errors", function()
    ok(MADE .. [[
      local kinds = kinds_of_stats()
      for _, m in ipairs(made) do
        eq(getmetatable(m.object).__name, pattern(m.kind), m.name)
        eq(kinds[core.handle(m.object)], m.kind, m.name)
        for name, method in pairs(getmetatable(m.object).methods) do
          raises(name, method, io.stdout)
        end
      end]])
  end)

  it("is sent in a message, and is the same object there", function()
    ok(MADE .. [[
      local there, back = mp.Queue(), mp.Queue()
      local p = P(function()
        for object in there:iter() do back:put(object) end
      end)
      for _, m in ipairs(made) do
        there:put(m.object)
        local same = back:get()
        assert(same == m.object, m.name)
        eq(tostring(same), tostring(m.object))
      end
      there:close()
      p:join() eq(p.exitcode, 0)]])
  end)

  it("outlives the death of a process that has it, and goes with its last holder", function()
    ok(MADE .. [[
      local there, back = mp.Queue(), mp.Queue()
      local p = P(function() local list = there:get() back:put(#list) there:get() end)
      local sent = {}
      for i, m in ipairs(made) do sent[i] = m.object end
      there:put(sent)
      eq(back:get(), #made)
      kill(p.pid) p:join()
      local gone = {}
      for _, m in ipairs(made) do
        assert(tostring(m.object):find(pattern(m.kind), 1, true), m.name)
        gone[core.handle(m.object)] = m.name
      end
      made, sent = nil, nil
      until_true(function()
        collectgarbage() collectgarbage()
        for handle in pairs(kinds_of_stats()) do if gone[handle] then return false end end
        return true
      end)]])
  end)

  it("says whether it can be waited for", function()
    ok(MADE .. [[
      for _, m in ipairs(made) do
        local waited, why = pcall(mp.wait, { m.object }, 0)
        assert(waited or why:find("wait: list[1] cannot be waited for", 1, true), m.name .. ": " .. tostring(why))
      end]])
  end)

  it("is made by a manager, but for those that are not Python's", function()
    ok(MADE .. [[
      local m <close> = mp.Manager()
      for _, one in ipairs(made) do
        local others = { Pipe = true, RawArray = true, RawValue = true }
        local make = m[one.name]
        eq(make == nil, others[one.name] or false, one.name)
        if make then eq(getmetatable(make(m, table.unpack(one.args))), getmetatable(one.object)) end
      end]])
  end)
end)
