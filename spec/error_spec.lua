local support = require "spec.support"
local ok, run, ends = support.ok, support.run, support.ends

-- Where code of the script can run: how f is called there. What it returns or raises does not matter.
local PLACES = {
  ["the main chunk"] = "f()",
  ["a task"] = "mp.co.spawn(f):get()",
  ["a link"] = "mp.co.spawn(print):link(f) mp.co.wait()",
  ["a child by fork"] = "local p = mp.get_context('fork').Process(f) p:start() p:join() os.exit(p.exitcode)",
  ["a child by spawn"] = "local p = mp.get_context('spawn').Process(f) p:start() p:join() os.exit(p.exitcode)",
  ["a child by forkserver"] =
    "local p = mp.get_context('forkserver').Process(f) p:start() p:join() os.exit(p.exitcode)",
  ["a task of a child"] = "local p = P(function() mp.co.spawn(f):get() end) p:join() os.exit(p.exitcode)",
  ["a pool"] = "local pool <close> = mp.Pool(1) pool:apply(f)",
  ["a map of a pool"] = "local pool <close> = mp.Pool(1) pool:map(f, { 1 })",
  ["an initializer"] = "local pool <close> = mp.Pool { processes = 1, initializer = f } pool:apply(print)",
  ["a callback of a pool"] =
    "local pool <close>, e = mp.Pool(1), mp.Event() " ..
      "pool:apply_async(math.abs, { 1 }, { callback = function() e:set() f() end }) e:wait()",
  ["a map of co.Pool"] = "mp.co.Pool(1):map(f, { 1 })",
  ["a scope"] = "mp.co.scope(function(s) s:spawn(f) end)",
  ["a time limit"] = "mp.co.with_timeout(60, f)",
}

local function each_place(what, make)
  for place, call in pairs(PLACES) do it(what .. " in " .. place, function() make(call) end) end
end

describe("the traceback of a stack overflow is short", function()
  each_place("and there at once", function(call)
    local r = run("local function f() return f() + 1 end " .. call, { timeout = 30, mode = "command" })
    assert.truthy(r.stderr:find("stack overflow", 1, true), r.stderr)
    assert.truthy(r.stderr:find("(skipping", 1, true), r.stderr)
    local _, lines = r.stderr:gsub("\n", "")
    assert.is_true(lines < 60, r.stderr)
  end)

  it("of the main chunk: its innermost and outermost functions, as lua shows them", function()
    local r = run[[
      local n = 0
      local function f() n = n + 1 if n == 1000 then
          error('deep')
        end
        return (f())
      end
      f()]]
    local lines = {}
    for line in r.stderr:gmatch("[^\n]+") do lines[#lines + 1] = line end
    local sort = support.lua_version == "5.4" and "function" or "global"
    assert.truthy(lines[3]:find(("in %s 'error'"):format(sort), 1, true), r.stderr)
    assert.truthy(lines[4]:find("script.lua:3: in upvalue 'f'", 1, true), r.stderr)
    assert.truthy(lines[#lines - 1]:find("script.lua:7: in main chunk", 1, true), r.stderr)
    assert.truthy(lines[#lines - 2]:find("script.lua:5: in local 'f'", 1, true), r.stderr)
    assert.is_true(#lines < 26)
  end)

  it("when every task waits deep in its calls", function()
    ends(1, { "every task waits", "script.lua:1" }, ([[
      local function deep(n) if n == 0 then mp.Queue():get() end return (deep(n - 1)) end
      mp.co.spawn(deep, DEEP)
      deep(DEEP)]]):gsub("DEEP", support.deep), { mode = "command", timeout = 30 })
  end)
end)

describe("coroutine.yield() outside the script's own coroutines raises an error that says what to do", function()
  each_place("also", function(call)
    ok([[local function f()
      raises('co.sleep(0)', coroutine.yield)
      raises('co.sleep(0)', coroutine.yield, 1)
    end ]] .. call, { mode = "command" })
  end)

  it("also in handlers of signals", function()
    local r = run[[
      local q = mp.co.Queue()
      mp.signal("USR1", function() q:put { pcall(coroutine.yield) } end)
      kill(mp.current_process().pid, "USR1")
      print(table.unpack(q:get()))]]
    assert.truthy(r.stdout:find("^false.*co.sleep%(0%)"), r.stdout .. r.stderr)
  end)

  it("also when it is the function from before the library was loaded", function()
    for _, call in ipairs{ "mp.co.spawn(yield):get()", "local p = P(yield, 5) p:join() os.exit(p.exitcode)" } do
      local r = run("local yield = coroutine.yield local mp = require 'mpengine' " .. call, { mode = "stock" })
      assert.equal(1, r.status)
      assert.truthy(r.stderr:find("co.sleep(0)", 1, true), r.stderr)
    end
  end)

  it("but yields of generators reach their callers", function()
    ok[[
      local p = P(function()
        local g = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) mp.sleep(0) end end)
        eq({ g(), g(), g() }, { 1, 2, 3 })
      end)
      p:join()
      eq(p.exitcode, 0)]]
  end)
end)

describe("the traceback that is kept for an error", function()
  for what, call in pairs{
    ["a scope"] = "mp.co.scope(function() f() end)",
    ["a task"] = "mp.co.spawn(function() f() end):get()",
  } do
    it("in " .. what .. " ends at the script's first function", function()
      local r = run("local function f() error 'oops' end\n" .. call, { mode = "command" })
      assert.equal(1, r.status)
      local kept = assert(r.stderr:match("raised in a task:\n(.*)$"), r.stderr)
      assert.truthy(kept:find("script.lua:1: in upvalue 'f'\n", 1, true), r.stderr)
      assert.truthy(kept:find("\n%s*%S+script.lua:2: in [^\n]+\n?$"), r.stderr)
    end)
  end
end)

describe("an error that load catches", function()
  each_place("is what was raised", function(call)
    local r = run([[
      local function f()
        local chunk, why = load(function() return true end)
        assert(chunk == nil and why:find "reader function must return a string$", why)
        chunk, why = load(function() error({ code = 7 }) end)
        assert(chunk == nil and type(why) == "table" and why.code == 7)
        chunk, why = load(function() error("mine", 0) end)
        assert(chunk == nil and why == "mine", why)
        assert(not load "x x")
      end ]] .. call, { mode = "command" })
    assert.equal(0, r.status, r.stderr)
    assert.equal("", r.stderr)
  end)

  it("is not mixed up with a later one", function()
    ends(1, { "later", "script.lua:2: in main chunk" }, [[
      load(function() error("earlier", 0) end)
      error("later", 0)]])
  end)
end)
