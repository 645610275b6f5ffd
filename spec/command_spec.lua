local support = require "spec.support"
local run = support.run

local function command(flags, opts)
  opts = opts or {}
  opts.mode, opts.flags = "command", flags
  return run(nil, opts)
end

describe("the command", function()
  it("runs a script and exits with 0", function()
    local r = run('print("hello")', { mode = "command", plain = true })
    assert.same({ 0, "hello\n", "" }, { r.status, r.stdout, r.stderr })
  end)

  it("reports that it cannot open a script, and exits with 2", function()
    local r = command{ "/no/such/script.lua" }
    assert.equal(2, r.status)
    assert.equal("", r.stdout)
    assert.truthy(r.stderr:find("^mpengine: "), r.stderr)
    assert.truthy(r.stderr:find("/no/such/script.lua", 1, true), r.stderr)
    assert.truthy(r.stderr:find("No such file", 1, true), r.stderr)
    assert.equal(2, command({ "/" }).status)
  end)

  it("reports a syntax error with its line, and exits with 1", function()
    local r = run("print 'x'\nlocal = 5", { mode = "command", plain = true })
    assert.equal(1, r.status)
    assert.equal("", r.stdout)
    assert.truthy(r.stderr:find("^mpengine: "), r.stderr)
    assert.truthy(r.stderr:find("script.lua:2:", 1, true), r.stderr)
  end)

  it("reports an error with the message and a traceback, and exits with 1", function()
    local r = run("local function inner()\n  error('the reason')\nend\ninner()", { mode = "command", plain = true })
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("^mpengine: [^\n]*script.lua:2: the reason\n"), r.stderr)
    assert.truthy(r.stderr:find("stack traceback:", 1, true), r.stderr)
    assert.truthy(r.stderr:find("script.lua:4: in main chunk", 1, true), r.stderr)
  end)

  it("reports an error that is an object", function()
    local r = run("error(setmetatable({}, { __tostring = function() return 'as text' end }))",
      { mode = "command", plain = true })
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("mpengine: as text", 1, true), r.stderr)
    r = run("error({ code = 5 })", { mode = "command", plain = true })
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("^mpengine: [^\n]*table"), r.stderr)
    r = run("error()", { mode = "command", plain = true })
    assert.equal(1, r.status)
    local nothing = support.lua_version == "5.4" and "nil" or "<no error object>"
    assert.truthy(r.stderr:find("^mpengine: [^\n]*" .. nothing), r.stderr)
  end)

  it("exits with the status that the script gives to os.exit", function()
    for text, status in pairs{ ["3"] = 3, ["true"] = 0, ["false"] = 1, ["0"] = 0, ["4, true"] = 4 } do
      assert.equal(status, run("os.exit(" .. text .. ")", { mode = "command", plain = true }).status)
    end
  end)

  it("flushes the output when the script exits", function()
    local r = run("io.stdout:setvbuf('full') io.write('half a line') os.exit(0)", { mode = "command", plain = true })
    assert.equal("half a line", r.stdout)
  end)

  it("reports that an option is unknown, and exits with 2", function()
    for _, flags in ipairs{ { "--no-such-option" }, { "-z" }, { "-e" } } do
      local r = command(flags)
      assert.equal(2, r.status)
      assert.truthy(r.stderr:find("^mpengine: "), r.stderr)
      assert.truthy(r.stderr:find(flags[1], 1, true), r.stderr)
    end
  end)

  it("leaves the options after the script to the script", function()
    local r = run("print(...)", { mode = "command", plain = true, args = { "--version", "-e", "" } })
    assert.same({ 0, "--version\t-e\t\n" }, { r.status, r.stdout })
  end)

  it("sets arg as lua does", function()
    local code = "print(arg[0]:match('[^/]*$'), #arg, arg[1], arg[2], arg[-1] ~= nil, ...)"
    local r = run(code, { mode = "command", plain = true, args = { "a b", "c" } })
    assert.equal("script.lua\t2\ta b\tc\ttrue\ta b\tc\n", r.stdout)
  end)

  it("runs the code after -e", function()
    local r = command{ "-e", "print(require('mpengine').Lock ~= nil)" }
    assert.same({ 0, "true\n", "" }, { r.status, r.stdout, r.stderr })
    r = command{ "-e", "error('the reason')" }
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("the reason", 1, true), r.stderr)
    r = command{ "-e", "local =" }
    assert.equal(1, r.status)
  end)

  it("runs processes from -e and from standard input", function()
    local code = [[local mp = require "mpengine"
      local p = mp.Process(function(x) print("child", x) end, 5) p:start() p:join() print(p.exitcode)]]
    assert.equal("child\t5\n0\n", command({ "-e", code }).stdout)
    assert.equal("child\t5\n0\n", command({ "-" }, { stdin = code }).stdout)
  end)

  it("reads a script from standard input for -", function()
    local r = command({ "-", "x" }, { stdin = "print(...)" })
    assert.same({ 0, "x\n" }, { r.status, r.stdout })
    r = command({ "-" }, { stdin = "error('the reason')" })
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("stdin:1: the reason", 1, true), r.stderr)
  end)

  it("prints its version and its options", function()
    local r = command{ "--version" }
    assert.equal(0, r.status)
    assert.truthy(r.stdout:find("mpengine %d+%.%d+"), r.stdout)
    r = command{ "--help" }
    assert.equal(0, r.status)
    for _, text in ipairs{ "mpengine", "script.lua", "-e", "-i", "--version", "--help" } do
      assert.truthy(r.stdout:find(text, 1, true), r.stdout)
    end
    assert.equal("", r.stderr)
  end)

  it("skips a first line that starts with #", function()
    assert.equal("2\n", run("#!/usr/bin/env mpengine\nprint(debug.getinfo(1).currentline)",
      { mode = "command", plain = true }).stdout)
  end)

  it("finds its modules from any directory, through a link, and without the help of LUA_PATH", function()
    local link = os.tmpname()
    support.shell(("ln -sf %s %s"):format(support.quote(support.command), link))
    local r = support.shell("cd / && env -u LUA_PATH -u LUA_CPATH " .. link
      .. " -e 'print(require(\"mpengine\").co ~= nil)'")
    os.remove(link)
    assert.equal("true\n", r)
  end)

  it("lets a script require modules of its directory, as lua does", function()
    local dir = support.shell("mktemp -d"):gsub("\n", "")
    support.write_file(dir .. "/mine.lua", "return { name = 'mine' }")
    support.write_file(dir .. "/main.lua", "print(require('mine').name, package.path:find('./?.lua', 1, true) ~= nil)")
    local r = command({ "main.lua" }, { cwd = dir })
    support.shell("rm -r " .. support.quote(dir))
    assert.equal("mine\ttrue\n", r.stdout)
  end)

  it("reports an error in a child, and goes on", function()
    local r = run([[local mp = require "mpengine"
      local p = mp.Process{ name = "w1", target = function()
        error("the reason")
      end }
      p:start() p:join()
      print(p.exitcode)]], { mode = "command", plain = true })
    assert.same({ 0, "1\n" }, { r.status, r.stdout })
    assert.truthy(r.stderr:find("Process w1:", 1, true), r.stderr)
    assert.truthy(r.stderr:find("script.lua:3: the reason", 1, true), r.stderr)
    assert.truthy(r.stderr:find("stack traceback", 1, true), r.stderr)
  end)

  it("waits for nothing that the script did not make: it is quick to exit", function()
    local r = run('require "mpengine"', { mode = "command", plain = true, timeout = 10 })
    assert.same({ 0, "", "" }, { r.status, r.stdout, r.stderr })
  end)

  it("shows any error value as lua does", function()
    local r = command{ "-e", "error({})" }
    assert.equal("mpengine: (error object is a table value)", r.stderr:match("^[^\n]*"))
    assert.truthy(r.stderr:find("stack traceback:", 1, true), r.stderr)
    r = command{ "-e", "error(setmetatable({}, { __tostring = function() return 'it speaks' end }))" }
    assert.equal("mpengine: it speaks\n", r.stderr)
    r = command{ "-l", "no_such_module" }
    assert.equal("mpengine: module 'no_such_module' not found:", r.stderr:match("^[^\n]*"))
  end)

  it("without a script has the whole command line in arg, from 0", function()
    local r = command{ "-e", "print(arg[0] ~= nil, arg[1], #arg)" }
    assert.equal("true\t-e\t2\n", r.stdout)
  end)

  it("is interactive with -i", function()
    local lines = { "x = 20", "print(x + 1)", "x + 2", "=x + 3",
      'require("mpengine").sleep(0)', 'error("oops")', 'print("on")', "" }
    local r = command({ "-i" }, { stdin = table.concat(lines, "\n") })
    assert.equal(0, r.status)
    for _, text in ipairs{ "21", "22", "23", "on" } do assert.truthy(r.stdout:find(text, 1, true), r.stdout) end
    assert.truthy(r.stderr:find("oops", 1, true), r.stderr)
  end)
end)

describe("stock lua5.4", function()
  local code = [[
    local co, q = mp.co, mp.Queue()
    local p = mp.Process(function(x) q:put(x + 1) end, 1)
    p:start()
    local t = co.spawn(function() return q:get() end)
    co.sleep(0.001)
    print(t:get(), p:join(), p.exitcode)
    print(mp.Pool(2):map(function(x) return x * 2 end, { 1, 2 })[2])]]

  it("runs the same script as the command", function()
    for _, mode in ipairs{ "command", "stock" } do
      support.prints("2\ttrue\t0\n4\n", code, { mode = mode })
    end
  end)

  it("waits for the children at the end, also when the script raised or called os.exit", function()
    for last, status in pairs{ [""] = 0, ["error('x')"] = 1, ["os.exit(3)"] = 3 } do
      local r = run("P(function() mp.sleep(0.2) print 'child' end) " .. last, { mode = "stock" })
      assert.same({ status, "child\n" }, { r.status, r.stdout })
    end
  end)

  it("reports errors of children and of the script", function()
    local r = run("local p = P(function() error('in the child') end) p:join() error('in main')", { mode = "stock" })
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("Process Process-1:", 1, true), r.stderr)
    assert.truthy(r.stderr:find("in the child", 1, true), r.stderr)
    assert.truthy(r.stderr:find("in main", 1, true), r.stderr)
  end)
end)
