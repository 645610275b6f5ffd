-- The library and the command keep working when a script changes its globals. The options,
-- variables and messages of the command are those of lua.
local support = require "spec.support"
local run = support.run

local function command(flags, opts)
  opts = opts or {}
  opts.mode, opts.flags = "command", flags
  return run(nil, opts)
end

-- Each statement takes something from the script that the library uses too.
local TAKEN = {}
for _, name in ipairs{ "assert", "collectgarbage", "coroutine", "debug", "error", "getmetatable", "io",
  "ipairs", "load", "math", "next", "os", "package", "pairs", "pcall", "print", "rawget", "rawset", "require",
  "select", "setmetatable", "string", "table", "tonumber", "tostring", "type", "utf8", "xpcall", "_G" } do
  TAKEN[#TAKEN + 1] = name .. " = nil"
end
for _, field in ipairs{ "debug.traceback", "debug.getinfo", "string.format", "string.gsub", "string.find", "string.sub",
  "table.concat", "table.remove", "io.write", "io.stderr", "os.exit", "table.unpack" } do
  TAKEN[#TAKEN + 1] = field .. " = nil"
end
TAKEN[#TAKEN + 1] = "type = function() return 'mine' end"
TAKEN[#TAKEN + 1] = "tostring = function() error('mine') end"

describe("a script that changes its globals", function()
  it("gets its errors reported as before", function()
    for _, taken in ipairs(TAKEN) do
      local r = command({ "-e", "local e = error " .. taken .. " e('boom')" })
      assert.equal(1, r.status, taken)
      assert.equal("mpengine: (command line):1: boom", r.stderr:match "^[^\n]*", taken)
      assert.truthy(r.stderr:find("stack traceback:", 1, true), taken .. r.stderr)
    end
  end)

  it("gets the errors of its tasks, children and pools", function()
    for _, taken in ipairs(TAKEN) do
      support.ends(1, { "in_a_child", "in_a_task", "in_a_pool" }, [[
        local mp = require "mpengine"
        local co = mp.co
        local pool = mp.Pool(1)
        ]] .. taken .. [[

        local p = mp.Process(function() local x = "" x.in_a_child() end)
        p:start()
        p:join()
        local t = co.spawn(function() local x = "" x.in_a_task() end)
        co.sleep(0)
        pool:apply(function() local x = "" x.in_a_pool() end)]], { plain = true, mode = "command" })
    end
  end)

  it("gets the report of a deadlock", function()
    for _, taken in ipairs{ "debug = nil", "table = nil", "string.format = nil", "type = nil" } do
      support.ends(1, { "can never come", "Event" },
        "local mp = require 'mpengine' local e = mp.co.Event() " .. taken .. " e:wait()", { plain = true })
    end
  end)
end)

describe("the command", function()
  it("gives the script the values that arg has then, which must be a table", function()
    assert.equal("100\n", command({ "-e", "arg[1] = 100", "-" }, { stdin = "print(...)" }).stdout)
    assert.equal("a\tb\n", command({ "-e", "arg = { 'a', 'b' }", "-", "x" }, { stdin = "print(...)" }).stdout)
    local r = command({ "-e", "arg = 1", "-" }, { stdin = "" })
    assert.same({ 1, "mpengine: 'arg' is not a table\n" }, { r.status, r.stderr })
    r = command({ "-" }, { stdin = "print(X)", env = { LUA_INIT = "X = arg[0]" } })
    assert.equal(0, r.status)
  end)

  it("ignores all variables of Lua with -E at any position", function()
    local version = support.lua_version:gsub("%.", "_")
    local env = { LUA_PATH = "xxx", LUA_CPATH = "yyy" }
    env["LUA_PATH_" .. version], env["LUA_CPATH_" .. version] = "zzz", "vvv"
    local code = "print(package.path:find('xxx') or package.path:find('zzz') or package.cpath:find('yyy')"
      .. " or package.cpath:find('vvv'))"
    for _, flags in ipairs{ { "-E", "-e", code }, { "-W", "-E", "-e", code }, { "-e", code, "-E" } } do
      assert.equal("nil\n", command(flags, { env = env }).stdout)
    end
    assert.truthy(command({ "-e", "print(package.path)", "-e", "-E" }, { env = env }).stdout:find "zzz")
    assert.equal("zzz\tvvv\n", command({ "-e", "print(package.path, package.cpath)" }, { env = env }).stdout)
  end)

  it("calls __tostring of an error where that can look at the stack", function()
    local r = run("local m = setmetatable({}, { __tostring = function()\n"
      .. "return tostring(debug.getinfo(4).currentline) end })\nerror(m)", { mode = "command", plain = true })
    assert.equal("mpengine: 3\n", r.stderr)
    r = run("error(setmetatable({}, { __tostring = function() return 5 end }))", { mode = "command", plain = true })
    assert.truthy(r.stderr:find("^mpengine: "), r.stderr)
  end)
end)

describe("interactive mode", function()
  local function types(...)
    local r = command({ "-i" }, { stdin = table.concat({ ... }, "\n") .. "\n", timeout = 10 })
    assert.equal(0, r.status)
    return r
  end

  it("goes on whatever the script does to the prompt", function()
    for _, line in ipairs{ "io = nil", "_PROMPT = {}", "_PROMPT = 5", "_PROMPT = nil", "tostring = nil",
      "_PROMPT = setmetatable({}, { __tostring = function() error('no') end })",
      "_PROMPT = setmetatable({}, { __tostring = function() return {} end })", "io.write = nil", "io.read = nil" } do
      assert.truthy(types(line, "print(6 * 7)").stdout:find("42", 1, true), line)
    end
    local r = types("_PROMPT = setmetatable({}, { __tostring = function() return 'say>' end })", "x = 1")
    assert.truthy(r.stdout:find("say>say>", 1, true), r.stdout)
  end)

  it("reports an error of print, and goes on", function()
    local r = types("print = nil", "1 + 1", "io.write('on')")
    assert.truthy(r.stderr:find("error calling 'print'", 1, true), r.stderr)
    assert.truthy(r.stdout:find("on", 1, true), r.stdout)
  end)

  it("ends the last line of output, and reads statements of several lines", function()
    local r = command({ "-e", "_PROMPT, _PROMPT2 = '', ''", "-i" }, { stdin = "a =\n10\na\n=a + 1\n" })
    assert.truthy(r.stdout:find("\n10\n11\n\n$"), r.stdout)
  end)
end)
