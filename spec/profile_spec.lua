-- Profiles of real programs: what they count as running, as waiting and as C code.
local support = require "spec.support"
local look = require "spec.support.look"
local quote, shell = support.quote, support.shell
local with_program, run, says = look.with_program, look.mpengine, look.says

local READY <const> = "io.stdout:write('ready\\n') io.stdout:flush()\n"

-- The stacks of a folded text, with their counts.
local function stacks_of(text)
  local list, sum = {}, 0
  for line in text:gmatch("[^\n]*\n") do
    local stack, n = line:match("^(.+) (%d+)\n$")
    assert.truthy(stack, line)
    list[#list + 1] = { stack = stack, n = tonumber(n) }
    sum = sum + tonumber(n)
  end
  return list, sum
end

-- The samples of the stacks with all these parts, in that order.
local function count(list, ...)
  local n = 0
  for _, s in ipairs(list) do
    local at, all = 1, true
    for _, part in ipairs { ... } do
      local from, to = s.stack:find(part, at, true)
      if not from then all = false break end
      at = to + 1
    end
    n = n + (all and s.n or 0)
  end
  return n
end

local function profile(pid, dir, seconds, form)
  local path = dir .. "/out." .. (form or "folded")
  local r = run("profile", tostring(pid), "-o", quote(path), "--seconds", tostring(seconds))
  assert.equal("", r.stderr)
  assert.equal(0, r.status)
  assert.equal("", r.stdout)
  return support.read_file(path)
end

describe("mpengine profile", function()
  it("counts what each process runs, by its Lua stack, and what waits", function()
    with_program([[
      local function inner() for _ = 1, 1000 do end end
      function outer() while true do inner() end end
      local function nap() mp.Queue():get() end
      mp.Process{ target = outer, name = "busy" }:start()
      mp.Process{ target = nap, name = "lazy" }:start()
      co.spawn(function() co.sleep(1000) end)
    ]] .. READY .. "mp.sleep(1000)", function(pid, dir)
      local list = stacks_of(profile(pid, dir, 0.6))
      local busy = count(list, "busy (pid ", ";main;", "outer (script.lua:2)")
      assert.truthy(busy >= 20, busy)
      assert.truthy(count(list, "busy (pid ", "outer (script.lua:2);inner (script.lua:1)") > busy / 2)
      assert.truthy(count(list, "lazy (pid ", "(script.lua:3);get [C];(waiting)") >= 20)
      assert.truthy(count(list, "MainProcess (pid ", "main chunk (script.lua);sleep [C];(waiting)") >= 20)
      assert.equal(0, count(list, "busy", "(waiting)"))
    end)
  end)

  it("shows a task by its name, also inside a coroutine of the script", function()
    with_program([[
      local function deep() for _ = 1, 1000 do end end
      local function walk() coroutine.wrap(function() while true do deep() co.sleep(0) end end)() end
      local t = co.spawn(walk)
    ]] .. READY .. "t:join()", function(pid, dir)
      local list = stacks_of(profile(pid, dir, 0.5))
      assert.truthy(count(list, "MainProcess", ";walk;", "walk (script.lua:2)", "deep (script.lua:1)") >= 5)
    end)
  end)

  it("counts C code where it was called", function()
    with_program([[
      local function grind() local s = ("x"):rep(2^27) while true do s:find("y", 1, true) s:find("x-y") end end
    ]] .. READY .. "grind()", function(pid, dir)
      local list, sum = stacks_of(profile(pid, dir, 1))
      assert.truthy(count(list, "(in C)") > sum / 2)
    end)
  end)

  it("says of what never answers that it is in C code, or stopped", function()
    with_program([[
      local p = mp.Process{ target = function() mp.sleep(1000) end, name = "halted" }
      p:start()
      io.stdout:write(p.pid, "\n") io.stdout:flush()
      os.execute("exec sleep 1000")
    ]], function(pid, dir, line)
      shell("kill -STOP " .. line)
      local text = profile(pid, dir, 2)
      local list = stacks_of(text)
      shell("kill -CONT " .. line)
      assert.truthy(count(list, "MainProcess", ";(in C)") >= 20, text)
    end)
  end)

  it("follows processes that start and end meanwhile, and ends with the program", function()
    with_program([[
      co.spawn(function()
        for i = 1, 3 do
          local p = mp.Process{ target = function() mp.sleep(1) end, name = "child-" .. i }
          p:start() p:join()
        end
        os.exit(0)
      end)
    ]] .. READY .. "mp.sleep(1000)", function(pid, dir)
      local list = stacks_of(profile(pid, dir, 1000))
      assert.truthy(count(list, "child-2") > 0)
      assert.truthy(count(list, "child-3") > 0)
    end)
  end)

  it("leaves the script's own hook, and its results, as they are", function()
    with_program([[
      local calls = 0
      debug.sethook(function() calls = calls + 1 end, "", 1000)
    ]] .. READY .. [[
      local sum, from = 0, os.clock()
      while os.clock() - from < 1 do for i = 1, 1000 do sum = sum + i end end
      io.stdout:write(tostring(debug.gethook() ~= nil and calls > 100 and sum % 500500 == 0), "\n")
      io.stdout:flush()
      mp.sleep(1000)
    ]], function(pid, dir, _, pipe)
      profile(pid, dir, 0.3)
      assert.equal("true", pipe:read())
    end)
  end)

  it("draws a flame graph that loads nothing and can be searched", function()
    with_program([[
      local t = { ["a<b>&\"c"] = function() while true do end end }
    ]] .. READY .. "t['a<b>&\"c']()", function(pid, dir)
      local svg = profile(pid, dir, 0.3, "svg")
      assert.truthy(svg:find("^<%?xml"))
      says(svg, "</svg>", "a&lt;b&gt;&amp;&quot;c (script.lua:1)", "<title>MainProcess (pid " .. pid, "search")
      assert.falsy(svg:gsub('xmlns="http://www.w3.org/2000/svg"', ""):find("https?://"))
    end)
  end)

  it("refuses what it cannot do, on stderr alone", function()
    local function refuses(status, words, ...)
      local r = run("profile", ...)
      assert.equal(status, r.status)
      assert.equal("", r.stdout)
      says(r.stderr, "mpengine profile: ", words)
    end
    refuses(2, "-o is missing", "1")
    refuses(2, "'-o' needs an argument", "1", "-o")
    refuses(2, "is no name of an output", "1", "-o", "x.png")
    for _, seconds in ipairs { "0", "-1", "nan", "x", "''" } do
      refuses(2, "seconds", "1", "-o", "x.svg", "--seconds", seconds)
    end
    refuses(2, "unrecognized option '--no'", "--no")
    refuses(1, "there is no process", "4999999", "-o", "x.svg")
    refuses(1, "'0' is no pid", "0", "-o", "x.svg")
    with_program(READY .. "mp.sleep(1000)", function(pid, dir)
      refuses(1, "cannot write: /nowhere/x.svg", tostring(pid), "-o", "/nowhere/x.svg")
      shell(("ln -s /dev/full %s/full.svg"):format(quote(dir)))
      refuses(1, "cannot write: ", tostring(pid), "-o", quote(dir .. "/full.svg"), "--seconds", "0.1")
    end)
  end)

  it("reads no source that is no file: the reader's own input stays", function()
    with_program("", function(_, dir)
      support.write_file(dir .. "/script", "local mp = require 'mpengine'\n"
        .. "mp.Process(function()\nwhile true do string.rep('x', 10) end end):start()\nprint 'ready'\nmp.sleep(1000)")
      local program = io.popen(("cd %s; exec setsid %s /dev/stdin <script & echo $!; wait"):format(quote(dir),
        quote(support.command)))
      local pid = program:read()
      program:read() -- ready
      local line = ("echo all of it | { timeout 20 %s profile %s -o %s/out.folded --seconds 0.3; cat; }"):format(
        quote(support.command), pid, quote(dir))
      assert.equal("all of it\n", shell(line))
      says(support.read_file(dir .. "/out.folded"), "function (/dev/stdin:2)")
      shell("kill -KILL -" .. pid)
      program:close()
    end)
  end)
end)
