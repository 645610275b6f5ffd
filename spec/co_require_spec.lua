-- require of modules whose top level waits.
local support = require "spec.support"
local ok = support.ok

local function co(code) return ok("local co = require 'mpengine'.co " .. code) end

describe("require", function()
  it("loads a module once, however many tasks require it while its top level waits", function()
    co[[
      local loads = 0
      package.preload["spec.slow"] = function(name, data)
        eq(name, "spec.slow") eq(data, ":preload:")
        loads = loads + 1
        co.sleep(0.01)
        return { co.spawn(function() co.sleep(0) return "x" end):get() }
      end
      local tasks = {}
      for i = 1, 100 do tasks[i] = co.spawn(require, "spec.slow") end
      local m = require "spec.slow"
      for i = 1, 100 do assert(tasks[i]:get() == m) end
      eq(m[1], "x") eq(loads, 1)]]
  end)

  it("suspends only the task: any number of tasks load modules at once", function()
    co[[
      local tasks = {}
      for i = 1, 200 do
        package.preload["spec.m" .. i] = function() co.sleep(0.2) return i end
        tasks[i] = co.spawn(require, "spec.m" .. i)
      end
      local from = now()
      for i = 1, 200 do eq(tasks[i]:get(), i) end
      assert(now() - from < 20)]] -- one after the other they take 40
  end)

  it("works as in Lua: results, errors, and what a module sets itself", function()
    co[[
      package.preload["spec.none"] = function() co.sleep(0) end
      package.preload["spec.no"] = function() co.sleep(0) return false end
      package.preload["spec.self"] = function(name) co.sleep(0) package.loaded[name] = "self" end
      eq(table.pack(require "spec.none"), table.pack(true, ":preload:"))
      eq(table.pack(require "spec.none"), table.pack(true))
      eq(table.pack(require "spec.no"), table.pack(false, ":preload:"))
      eq(table.pack(require "spec.self"), table.pack("self", ":preload:"))
      raises({ "module 'spec.missing' not found:\n\tno field package.preload['spec.missing']\n\tno file" }, require,
        "spec.missing")
      raises({ "'require'", "string" }, require)
      local searchers = package.searchers
      package.searchers = nil
      raises("'package.searchers' must be a table", require, "spec.other")
      package.searchers = searchers]]
  end)

  it("of a module that fails is tried again by the next waiting task", function()
    co[[
      local loads = 0
      package.preload["spec.bad"] = function()
        loads = loads + 1
        co.sleep(0.01)
        if loads < 3 then error("load " .. loads, 0) end
        return "good"
      end
      local t = {}
      for i = 1, 4 do t[i] = co.spawn(pcall, require, "spec.bad") end
      eq(table.pack(t[1]:get()), table.pack(false, "load 1"))
      eq(table.pack(t[2]:get()), table.pack(false, "load 2"))
      eq(table.pack(t[3]:get()), table.pack(true, "good", ":preload:"))
      eq(select(2, t[4]:get()), "good")
      eq(loads, 3)]]
  end)

  it("of a module whose loader is killed goes on in another", function()
    co[[
      package.preload["spec.killed"] = function() co.sleep(0.02) return "x" end
      local function load() return co.spawn(require, "spec.killed") end
      local a, b, c = load(), load(), load()
      co.sleep(0)
      a:kill()
      c:kill()
      eq(b:get(), "x")
      eq(select(2, c:get()), "killed")]]
  end)

  it("of modules that require each other does not wait forever", function()
    ok([[
      local co = mp.co
      package.preload["spec.a"] = function() co.sleep(0.001) return { pcall(require, "spec.b") } end
      package.preload["spec.b"] = function() co.sleep(0.002) return { pcall(require, "spec.a") } end
      local a, b = co.spawn(require, "spec.a"), co.spawn(require, "spec.b")
      a:get() b:get()
      package.preload["spec.self"] = function() co.sleep(0) return require "spec.self" end
      raises({ "circular require of module 'spec.self'" }, require, "spec.self")
      local entered = false -- a module may be entered once more, as with Lua's own
      package.preload["spec.twice"] = function()
        if entered then return 2 end
        entered = true
        return 1 + require "spec.twice"
      end
      eq((require "spec.twice"), 3)]], { timeout = 20 })
  end)

  it("shows the module's lines in its traceback", function()
    local r = support.run[[
      local co = mp.co
      package.preload["spec.bad"] = function()
        co.sleep(0.001)
        error("the reason")
      end
      require "spec.bad"]]
    assert.equal(1, r.status)
    for _, text in ipairs{ "script.lua:4: the reason", "'require'", "script.lua:6: in main chunk" } do
      assert.truthy(r.stderr:find(text, 1, true), r.stderr)
    end
  end)
end)
