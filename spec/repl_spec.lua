-- The interactive mode on a terminal: editing, completion, history, values, help; and tasks that run meanwhile.
-- Without a terminal: command_spec.lua.
local support = require "spec.support"
local terminal = require "spec.support.terminal"
local ok, quote = support.ok, support.quote

local function new_dir() return support.shell("mktemp -d"):match "%S+" end

-- Calls use(t, dir) with the interactive mode in a terminal; its history is dir/history.
local function session(use, environment)
  local dir = new_dir()
  local command = ("env %s LUA_INIT= LANG=C.UTF-8 MPENGINE_HISTORY=%s/history %s"):format(environment or "", dir,
    quote(support.command))
  terminal.run(command, function(t)
    t.screen "\n>"
    use(t, dir)
  end)
  support.shell("rm -rf " .. dir)
end

local it = terminal.is_there and it or function(name) pending(name .. ": there is no tmux") end

describe("the interactive mode on a terminal", function()
  it("shows results, and ends by Ctrl-D with status 0", function()
    session(function(t)
      t.line "40 + 2"
      t.screen "\n42\n"
      t.line "error 'oops'"
      t.screen("stdin:1: oops", "stack traceback:")
      t.press "C-d"
      t.screen "status 0"
    end)
  end)

  it("edits a line that is wider than the terminal", function()
    session(function(t)
      t.resize(40, 20)
      t.type(("-- %s x = 7 print(x * 6)"):format(("long "):rep(10)))
      t.press("C-a", "Delete", "Delete", "C-k")
      t.type "print(6 * 70)"
      t.press("Left", "BSpace", "Enter")
      t.screen "\n42\n"
    end)
  end)

  it("goes on over several lines until the chunk is complete, and keeps it as one entry", function()
    session(function(t, dir)
      t.line "for i = 1, 2 do"
      t.screen "\n>>"
      t.line "print('line ' .. i)"
      t.line "end"
      t.screen("line 1", "line 2")
      t.press("Up", "Enter")
      assert.truthy(support.eventually(function() return select(2, t.screen("line 2"):gsub("\nline 2", "")) == 2 end))
      t.press "C-d"
      t.screen "status 0"
      assert.equal("for i = 1, 2 do\\nprint('line ' .. i)\\nend",
        support.read_file(dir .. "/history"):match "^[^\n]*")
    end)
  end)

  it("completes globals, keywords, fields, methods and locals by Tab", function()
    session(function(t)
      t.line "thing = setmetatable({ first = 1 }, { __index = { method = rawequal, other = 2 } })"
      t.type "thi"
      t.press "Tab"
      t.type ".fi"
      t.press("Tab", "Enter")
      t.screen("> thing.first", "\n1\n")
      t.type "thing:"
      t.press "Tab"
      t.line "('called')"
      t.screen("thing:method('called')", "\nfalse\n")
      t.type "local foobar = 5 print(foo"
      t.press "Tab"
      t.line ")"
      t.screen "\n5\n"
      t.type "whil"
      t.press "Tab"
      t.screen "> while"
    end)
  end)

  it("completes the library's modules and methods of its objects, and lists what may be meant", function()
    session(function(t)
      t.line "mp = require 'mpengine' q = mp.Queue(3)"
      t.type "mp.co.spawn_"
      t.press "Tab"
      t.screen "> mp.co.spawn_later"
      t.press "C-u"
      t.type "q:put"
      t.press "Tab"
      t.screen("put         put_nowait", "> q:put")
      t.type "_"
      t.press "Tab"
      t.line "(7)"
      t.screen("> q:put_nowait(7)", "\ntrue\n")
    end)
  end)

  it("prints what tasks print above the line that is edited", function()
    session(function(t)
      t.line "mp = require 'mpengine' co = mp.co go = co.Event()"
      t.line "t = co.spawn(function() for i = 1, 3 do go:wait() go:clear() print('tick ' .. i) end end)"
      t.line "signal = mp.signal('USR1', function() go:set() end) pid = mp.current_process().pid print('pid ' .. pid)"
      local pid = t.screen("\npid "):match "\npid (%d+)"
      t.type(("x = '%s'"):format(("word "):rep(20))) -- two rows
      t.press "C-a"
      for i = 1, 3 do
        t.type(i .. "")
        t.screen(("\n> %s"):format(("123"):sub(1, i)))
        support.shell("kill -USR1 " .. pid)
        t.screen(("\ntick %d\n> %sx = 'word word"):format(i, ("123"):sub(1, i)))
      end
      local _, times = t.screen():gsub("x = 'word", "")
      assert.equal(1, times)
      t.press("Delete", "C-a", "Delete", "Delete", "Delete", "C-k")
      t.line "6 * 7"
      t.screen "\n42\n"
    end)
  end)

  it("leaves a line, and interrupts a chunk, by Ctrl-C, and goes on", function()
    session(function(t)
      t.line "for i = 1, 2 do"
      t.screen "\n>>"
      t.type "a line that is left, with the cursor"
      t.screen ">> a line that is left, with the cursor" -- Ctrl-C throws away what was typed and not read yet
      t.press("Left", "Left", "C-c")
      t.screen ">> a line that is left, with the cursor^C\n>"
      t.line "while true do end"
      t.screen "\n> while true do end\n"
      t.press "C-c"
      t.screen("interrupted", "stdin:1: in main chunk")
      t.line "require 'mpengine'.sleep(1000)"
      t.screen "sleep(1000)\n"
      t.press "C-c"
      t.line "6 * 7"
      t.screen "\n42\n"
    end)
  end)

  it("ends by SIGTERM with status 143, at the prompt and in a chunk, and restores the terminal", function()
    for _, code in ipairs { "", "require 'mpengine'.sleep(1000)" } do
      session(function(t)
        t.line "'pid ' .. require 'mpengine'.current_process().pid"
        local pid = t.screen("\npid "):match "\npid (%d+)"
        t.line(code)
        support.shell("kill -TERM " .. pid)
        t.screen "status 143"
      end)
    end
  end)

  it("restores the terminal when a task ends the program", function()
    local check = [[sh -c 'stty -g >D/before; "$@"; stty -g >D/after' sh]]
    local dir = new_dir()
    local command = ("LUA_INIT= MPENGINE_HISTORY= %s %s"):format(check:gsub("D", dir), quote(support.command))
    terminal.run(command, function(t)
      t.screen "\n>"
      t.line "require 'mpengine'.co.spawn_later(0.2, os.exit, 0)"
      t.screen "status 0"
    end)
    assert.equal(support.read_file(dir .. "/before"), support.read_file(dir .. "/after"))
    support.shell("rm -rf " .. dir)
  end)

  it("follows the size of the terminal", function()
    session(function(t)
      t.type(("x"):rep(50))
      t.resize(40, 20)
      t.screen(("> %s\n%s\n"):format(("x"):rep(38), ("x"):rep(12)))
    end)
  end)

  it("goes on as it was after a stop by Ctrl-Z, with the shell's terminal in between", function()
    terminal.run("env -u HISTFILE bash --norc --noprofile", function(t)
      t.screen "bash-"
      t.line(("LUA_INIT= MPENGINE_HISTORY= %s"):format(quote(support.command)))
      t.screen "\n>"
      t.type "print(6 *"
      t.screen "> print(6 *"
      t.press "C-z"
      t.screen "Stopped"
      t.line "stty -a | grep -ow -- '-\\?icanon'"
      t.screen "\nicanon\n"
      t.line "fg"
      t.screen "\n> print(6 *\n"
      t.line " 7)"
      t.screen "\n42\n"
      t.press "C-d"
      t.line "echo ended $?"
      t.screen "\nended 0\n"
    end)
  end)

  it("has characters of several bytes", function()
    session(function(t)
      t.type "#'aäö€x'"
      t.press("Left", "Left", "BSpace", "Enter")
      t.screen("> #'aäöx'", "\n6\n")
    end)
  end)

  it("has earlier lines by arrows and by Ctrl-R, of earlier sessions too", function()
    session(function(t, dir)
      t.line "first = 'one' .. 1"
      t.line "= first"
      t.screen "one1"
      t.press("C-d")
      t.screen "status 0"
      assert.equal("first = 'one' .. 1\n= first\n", support.read_file(dir .. "/history"))
      terminal.run(("env MPENGINE_HISTORY=%s/history %s"):format(dir, quote(support.command)), function(again)
        again.screen "\n>"
        again.press("Up", "Up")
        again.screen "> first = 'one' .. 1"
        again.press "C-c"
        again.screen "^C\n>"
        again.press "C-r"
        again.screen "bck:"
        again.type "= fi"
        again.screen "bck:= fi"
        again.press("Enter")
        again.screen "> = first"
      end)
    end)
  end)

  it("shows tables and shared objects with what they contain, by the script's print if there is one", function()
    session(function(t)
      t.line "{ 1, { 2, x = 'y' }, require 'mpengine'.Dict { a = { 1 } } }"
      t.screen("1, { 2, x = \"y\" }", "(1 entry) { a = { 1 } }")
      t.line "function print(...) io.write('mine ', ..., '\\n') end"
      t.line "'text'"
      t.screen "\nmine text\n"
    end)
  end)

  it("has help, unless the script has", function()
    session(function(t)
      t.line "help"
      t.screen "help \"mp.Queue\""
      t.line "help 'Queue:put'"
      t.screen("Queue:put(v, timeout)", "suspends only the calling task")
      t.line "help = 3 return help"
      t.screen "\n3\n"
    end)
  end)

  it("says once that libedit is missing, and goes on without", function()
    local dir = new_dir()
    support.shell(("touch %s/libedit.so.0 %s/libedit.so.2"):format(dir, dir))
    session(function(t)
      t.screen "mpengine: line editing needs libedit.so.2"
      t.line "6 * 7"
      t.screen "\n42\n"
      t.press "C-d"
      t.screen "status 0"
    end, "LD_LIBRARY_PATH=" .. dir)
    support.shell("rm -rf " .. dir)
  end)

  it("edits lines without TERM, as on a VT100", function()
    session(function(t)
      t.type "print(6 * 8)"
      t.press("Left", "BSpace")
      t.type "7"
      t.press "Enter"
      t.screen("> print(6 * 7)", "\n42\n")
      t.type "prin"
      t.press "Tab"
      t.screen "> print"
    end, "-u TERM")
  end)

  it("edits no lines with TERM=dumb, and says nothing", function()
    session(function(t)
      t.line "6 * 7"
      assert.falsy(t.screen("\n42\n"):find("libedit", 1, true))
    end, "TERM=dumb")
  end)
end)

describe("what the interactive mode shows", function()
  local SHOW <const> = "local show = require 'mpengine.repl.show'\n"

  it("is each value in a form that can be read", function()
    ok(SHOW .. [[
      local function is(value, want) eq(show.value(value, 80), want) end
      is("raw text\n", "raw text\n")
      is("\0\27[2J", '"\\x00\\x1b[2J"')
      is({ "quoted\n", "\xff", "ä" }, '{ "quoted\\n", "\\xff", "ä" }')
      is({}, "{}")
      is({ 1, nil, 3, ["end"] = 1, x = true, [2.5] = 0 }, '{ 1, [2.5] = 0, [3] = 3, ["end"] = 1, x = true }')
      is(setmetatable({ 1 }, { __name = "Point" }), "Point { 1 }")
      is(setmetatable({}, { __tostring = function() return "me" end }), "me")
      is(setmetatable({}, { __tostring = error }), "(table whose __tostring fails)")
      is({ print }, "{ " .. tostring(print) .. " }")
      eq(show.value(is, 80):match "%(.*%)$" ~= nil, true)
      eq(show.values(80, 1, nil, "x"), "1\tnil\tx")
      eq(show.values(80), "")]])
  end)

  it("is bounded in depth, number and length, and marks cycles", function()
    ok(SHOW .. [[
      local loop = { name = "loop" }
      loop.again = loop
      eq(show.value(loop, 80), '{ again = { … cycle }, name = "loop" }')
      eq(show.value({ { { { { 1 } } } } }, 80), "{ { { { { … } } } } }")
      local twice = { 1 }
      eq(show.value({ twice, twice }, 80), "{ { 1 }, { 1 } }")
      local many = {}
      for i = 1, 1000 do many[i] = i end
      eq(show.value(many, 80):match "… 950 more" ~= nil, true)
      for line in show.value(many, 40):gmatch "[^\n]+" do assert(#line <= 40, line) end
      local text = show.value({ ("é"):rep(500) }, 80)
      eq(text:match "(%d+) bytes", "1000") eq(utf8.len(text) ~= nil, true) assert(#text < 300)
      assert(#show.value(("x"):rep(1e6), 80) < 40000)
      local wide = {}
      for i = 1, 50 do wide[i] = {} for j = 1, 50 do wide[i][j] = { many } end end
      assert(#show.value(wide, 80) < 100000)]])
  end)

  it("is the contents of shared objects", function()
    ok(SHOW .. [[
      local function has(value, ...)
        local text = show.value(value, 80)
        for _, part in ipairs { ... } do assert(text:find(part, 1, true), text) end
      end
      local d = mp.Dict { a = 1, l = mp.List { 1, { 2 } } }
      d.me = d
      has(d, "mp.Dict: ", "a = 1", "(2 items) { 1, { 2 } }", "(3 entries) { … cycle }")
      has(mp.Array("i", { 4, 5 }), "{ 4, 5 }")
      has(mp.Array("d", 100), "… 50 more")
      has(mp.Value("d", 2.5), "= 2.5")
      has({ mp.Queue(), mp.Lock() }, "mp.Queue: ", "mp.Lock: ")
      local big = mp.Dict()
      for i = 1, 10001 do big[i] = i end
      has(big, "… 10001 more")]])
  end)
end)

describe("help", function()
  local HELP <const> = "local help = require 'mpengine.repl.help'\n"

  it("knows each public function by name and by value", function()
    ok(HELP .. [[
      local function has(text, ...)
        for _, part in ipairs { ... } do assert(text:find(part, 1, true), text) end
      end
      has(help.of "mp.Queue", "mp.Queue(maxsize)", "Queue:put(v, timeout)")
      has(help.of "Queue:put", "Queue:put(v, timeout)", "May wait")
      has(help.of "mp.co.sleep", "co.sleep")
      has(help.of "sleep", "mp.sleep")
      has(help.of "task_done", "JoinableQueue:task_done()")
      has(help.of(mp.Queue), "mp.Queue(maxsize)")
      has(help.of(mp.co.spawn), "mp.co.spawn(f, ...)")
      has(help.of(mp.Queue().put), "Queue:put(v, timeout)")
      has(help.of(mp.Queue()), "Queue", "Queue:get(timeout)")
      has(help.of(mp.co), "mp.co\n", "mp.co.spawn(f, ...)")
      has(help.of(mp), "mp.Process(options)")
      has(help.of(string.format), "of Lua", "#pdf-string.format")
      has(help.of "no such thing", "nothing is called 'no such thing'")
      has(help.of(3), "an integer: 3")]])
  end)

  it("begins with examples that work as they stand, one after the other", function()
    ok(HELP .. [[
      local env, count = setmetatable({ help = help.of }, { __index = _G }), 0
      for line in tostring(help.global):gmatch "\n  ([^\n]*)" do
        for example in (line .. "   "):gmatch "(.-)   +" do
          local f = load("return " .. example, "=example", "t", env) or load(example, "=example", "t", env)
          local text = f()
          if example:find "^help" then
            count = count + 1
            assert(not text:find "^nothing is called" and not text:find "^a nil", example .. ": " .. text)
          end
        end
      end
      eq(count, 6)]])
  end)

  it("tells a type from what is said of it", function()
    ok[[
      local split = require "mpengine.repl.annotations".split_type
      for text, kind in pairs {
        ["integer? nil before start"] = "integer?", ["number"] = "number", ["true|nil, any x"] = "true|nil, any",
        ["integer | { size?: integer, name?: string } the most"] = "integer | { size?: integer, name?: string }",
        ["fun(k: Key, n?: integer): any what f gives"] = "fun(k: Key, n?: integer): any",
        ["table<string, Status> by name"] = "table<string, Status>",
        ["{ [1]: Key, [2]: any }[]"] = "{ [1]: Key, [2]: any }[]",
      } do
        eq((split(text)), kind)
        eq((kind .. " " .. select(2, split(text))):gsub(" $", ""), text)
      end]]
  end)

  it("shows the comment above a function of a script", function()
    local dir = new_dir()
    support.write_file(dir .. "/m.lua", [[
local m = {}

--- Adds two numbers.
function m.add(a, b) return a + b end
return m
]])
    ok(HELP .. ("local text = help.of(dofile(%q).add) assert(text:find('Adds two numbers.', 1, true), text)"):format(
      dir .. "/m.lua"))
    support.shell("rm -rf " .. dir)
  end)
end)

describe("the history", function()
  it("is not torn by several sessions, and bounded", function()
    local dir = new_dir()
    ok(([[
      local history = require "mpengine.repl.history"
      local path = %q .. "/new/history"
      local function session(name)
        for i = 1, 500 do
          eq(history.add(path, ("%%s %%d %%s\nend\\"):format(name, i, ("x"):rep(i))), true)
        end
      end
      local all_of_them = {}
      for i = 1, 4 do all_of_them[i] = P(session, "s" .. i) end
      all(all_of_them)
      local file = io.open(path)
      assert(file:seek "end" <= 256 << 10)
      file:close()
      local entries, last = history.read(path), {}
      for _, entry in ipairs(entries) do
        local name, i, rest = entry:match "^(s%%d) (%%d+) (x+)\nend\\$"
        assert(name and #rest == tonumber(i), entry)
        assert(tonumber(i) > (last[name] or 0), entry)
        last[name] = tonumber(i)
      end
      assert(#entries > 100 and #entries <= history.MOST)]]):format(dir))
    support.shell("rm -rf " .. dir)
  end)

  it("is not read from what has no end, nor waited for, and that it is not kept is said once", function()
    local dir = new_dir()
    support.shell(("mkfifo %s/pipe; mkdir %s/dir"):format(dir, dir))
    for path, says in pairs { ["/dev/full"] = "No space left on device", ["/dev/zero"] = false,
      ["/dev/null"] = false, [dir .. "/pipe"] = "Illegal seek", [dir .. "/dir"] = "Is a directory",
      ["/proc/1/nothing"] = "No such file or directory" } do
      terminal.run(("env LUA_INIT= LANG=C.UTF-8 MPENGINE_HISTORY=%s %s -i"):format(path, quote(support.command)),
        function(t)
          t.screen "\n>"
          t.line "6 * 7"
          t.screen "\n42"
          t.line "'one' .. 'more'"
          local text = t.screen "\nonemore"
          local _, count = text:gsub("what is typed is not kept", "")
          assert.equal(says and 1 or 0, count, path)
          if says then assert.truthy(text:find(says, 1, true), text) end
          t.press "C-d"
          t.screen "status 0"
        end)
    end
    support.shell("rm -rf " .. dir)
  end)

  it("is where XDG_STATE_HOME or MPENGINE_HISTORY says", function()
    local code = "print(require 'mpengine.repl.history'.path())"
    local function where(env) return support.run(code, { mode = "command", env = env }).stdout end
    assert.equal("/x\n", where { MPENGINE_HISTORY = "/x" })
    assert.equal("nil\n", where { MPENGINE_HISTORY = "" })
    assert.equal("/s/mpengine/history\n", where { XDG_STATE_HOME = "/s" })
    assert.equal("/h/.local/state/mpengine/history\n", where { XDG_STATE_HOME = "relative", HOME = "/h" })
  end)
end)
