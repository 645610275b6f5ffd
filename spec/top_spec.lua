-- mpengine top: in a terminal of two sizes, by keys, and without a terminal.
local look = require "spec.support.look"
local support = require "spec.support"
local terminal = require "spec.support.terminal"
local quote = support.quote
local with_program, run, says = look.with_program, look.mpengine, look.says

local READY <const> = "io.stdout:write('ready\\n') io.stdout:flush()\n"
local WORK <const> = [[
  local q = mp.Queue{ maxsize = 10, name = "jobs" }
  mp.Process{ target = function() for _ in q:iter() do end end, name = "eater" }:start()
  mp.Process{ target = function() mp.Queue{ name = "never" }:get() end, name = "idle" }:start()
  local function feed() for i = 1, math.huge do q:put(i) co.sleep(0.001) end end
  local t = co.spawn(feed)
]] .. READY .. "t:join()"

-- Runs top of a program in a terminal; after `status` it is the shell's again.
local function in_terminal(pid, use)
  terminal.run(("%s top %d"):format(quote(support.command), pid), function(t) use(t.screen, t.press, t.resize) end)
end

local function widest(text)
  local most, lines = 0, 0
  for line in text:gmatch("([^\n]*)\n") do most, lines = math.max(most, #line), lines + 1 end
  return most, lines
end

describe("mpengine top", function()
  it("prints one frame, with rates, when there is no terminal", function()
    with_program(WORK, function(pid)
      local r = run("top", tostring(pid), "</dev/null")
      assert.equal(0, r.status)
      assert.equal("", r.stderr)
      says(r.stdout, "program " .. pid .. ": script.lua, 3 processes", "eater", "idle", "waiting", "mp.Queue 'never'")
      assert.falsy(r.stdout:find("\27", 1, true))
      local puts = r.stdout:match("mp.Queue 'jobs' .-(%d+)%s+%d+\n")
      assert.truthy(tonumber(puts) > 0)
    end)
  end)

  it("refuses what it cannot show, on stderr alone", function()
    for pid, status in pairs { ["4999999"] = 1, ["x"] = 1, ["--no"] = 2 } do
      local r = run("top", pid)
      assert.equal(status, r.status)
      assert.equal("", r.stdout)
      says(r.stderr, "mpengine top: ")
    end
  end)

  if not terminal.is_there then return end

  it("fits a terminal of 80x24 and another size, is used by keys, and ends with 0 on q", function()
    with_program(WORK, function(pid)
      in_terminal(pid, function(screen, press, resize)
        local first = screen("program " .. pid, "PROCESS", "eater", "mp.Queue 'jobs'", "q quit")
        local width, height = widest(first)
        assert.truthy(width <= 80 and height <= 24)
        press "n"
        screen "by name"
        press("Down", "Enter")
        screen("process ", "task main", "q quit  arrows, j, k, PgUp, PgDn, space scroll")
        press "b"
        screen("by name", "mp.Queue 'never'")
        resize(50, 10)
        width, height = widest(screen("program " .. pid, "q quit"))
        assert.truthy(width <= 50 and height <= 10)
        resize(80, 24)
        width, height = widest(screen("program " .. pid, "mp.Queue 'never'", "q quit  arrows, j, k, PgUp, PgDn move"))
        assert.truthy(width <= 80 and height <= 24)
        resize(130, 40)
        screen("sort: c CPU m memory t tasks n name p pid")
        press "q"
        local last = screen "status 0"
        assert.falsy(last:find("PROCESS", 1, true)) -- the screen is as it was before
      end)
    end)
  end)

  it("cuts nothing at 80x24 of its first line, its keys and what a dump says", function()
    with_program([[
      local q = mp.Queue{ name = ("word "):rep(40) .. "end of the name" }
      local ready = mp.Event()
      mp.Process(function() ready:set() q:get() end):start()
      ready:wait()
    ]] .. READY .. "mp.sleep(1000)", function(pid)
      in_terminal(pid, function(screen, press, resize)
        screen("program " .. pid, "CPU ", ", up ", "q quit", "sort: c CPU m memory t tasks n name p pid")
        press "d"
        screen("process MainProcess", "q quit  arrows")
        press "G"
        screen("end of the name", "objects by the place")
        resize(40, 10)
        press "g"
        screen("program " .. pid, "running for")
        press "b"
        screen("program " .. pid, "PROCESS", "q quit")
      end)
    end)
  end)

  it("gives the terminal back while it is stopped, and takes it again", function()
    with_program(WORK, function(pid)
      terminal.run("bash --norc --noprofile -i", function(t)
        t.line(("%s top %d"):format(quote(support.command), pid))
        t.screen("program " .. pid, "q quit")
        t.press "C-z"
        assert.falsy(t.screen("Stopped"):find("PROCESS", 1, true))
        t.line "stty -a | grep -o ' icanon'"
        t.screen "\n icanon"
        t.line "fg"
        t.screen("program " .. pid, "q quit")
        t.press "n"
        t.screen "by name"
        t.press "C-c"
        local last = t.screen "mpengine: interrupted"
        assert.falsy(last:find("PROCESS", 1, true))
        assert.falsy(last:find("traceback", 1, true))
        t.line "echo it ended with $?"
        t.screen "\nit ended with 130"
      end)
    end)
  end)

  it("prints one frame on a terminal that has no codes", function()
    with_program(WORK, function(pid)
      for _, term in ipairs { "dumb", "" } do
        terminal.run(("TERM=%s %s top %d"):format(term, quote(support.command), pid), function(t)
          t.screen("program " .. pid, "PROCESS", "status 0")
        end)
      end
    end)
  end)

  -- The row that is chosen has a style of its own.
  local function chosen(styled) return styled:match "\27%[7m([^\27]*)" end

  it("moves in a list that is longer than the screen, and in the other one after Tab", function()
    with_program([[
      local list = {}
      for i = 1, 40 do
        list[i] = mp.Queue{ name = ("q%02d"):format(i) }
        for j = 1, 100 - i do list[i]:put(j) end
      end
      local ready = mp.Semaphore(0)
      for i = 1, 20 do
        mp.Process{ target = function() ready:release() mp.sleep(1000) end, name = ("p%02d"):format(i) }:start()
      end
      for i = 1, 20 do ready:acquire() end
    ]] .. READY .. "mp.sleep(1000)", function(pid)
      terminal.run(("%s top %d"):format(quote(support.command), pid), function(t)
        t.screen("PROCESS 1-9/21", "OBJECT 1-9/40", "'q01'")
        t.press "n"
        t.screen("by name", "PROCESS 1-9/21", "p01")
        t.press("Home", "Down", "j", "j", "Up", "k")
        t.styled(function(text) return (chosen(text) or ""):find "p01" end)
        t.press "PageDown"
        t.styled(function(text) return (chosen(text) or ""):find "p09" end)
        t.press "G"
        t.screen("PROCESS 13-21/21", "p20")
        t.styled(function(text) return (chosen(text) or ""):find "p20" end)
        t.press("Tab", "PageDown", "PageDown")
        t.screen("OBJECT 13-21/40", "'q17'")
        t.styled(function(text) return (chosen(text) or ""):find "'q17'" end)
        t.press "End"
        t.screen("OBJECT 32-40/40", "'q40'")
        t.press "g"
        t.screen("OBJECT 1-9/40", "PROCESS 13-21/21")
        t.resize(60, 12)
        t.screen("/21", "OBJECT 1-4/40")
        t.resize(80, 24)
        t.screen("PROCESS 13-21/21", "OBJECT 1-9/40")
        t.press "Enter"
        t.screen("process p20", "b back")
        t.press "q"
        t.screen "status 0"
      end)
    end)
  end)

  it("shows names by their columns", function()
    with_program([[
      local q = mp.Queue{ name = ("\u{65e5}"):rep(30) }
      q:put(1)
      local ready = mp.Event()
      mp.Process{ target = function() ready:set() mp.sleep(1000) end, name = ("\u{e9}"):rep(20) }:start()
      ready:wait()
    ]] .. READY .. "mp.sleep(1000)", function(pid)
      in_terminal(pid, function(screen)
        local shown = screen("MainProcess", "mp.Queue '")
        assert.truthy(shown:find(("\u{e9}"):rep(18) .. " waiting", 1, true), shown)
        assert.truthy(shown:find("mp.Queue '" .. ("\u{65e5}"):rep(9) .. " 1 items", 1, true), shown)
      end)
    end)
  end)

  it("shows so many frames, an interval apart", function()
    with_program(WORK, function(pid)
      local r = run("top", "--interval=0.1", "-n", "3", tostring(pid), "</dev/null")
      assert.equal(0, r.status)
      local _, frames = r.stdout:gsub("program " .. pid .. ":", "")
      assert.equal(3, frames)
      terminal.run(("%s top --interval 0.1 -n 2 %d"):format(quote(support.command), pid), function(t)
        t.screen "status 0"
      end)
      for _, wrong in ipairs { "--interval=x", "--interval=0", "-n 0", "-n 1.5" } do
        assert.equal(2, run("top", wrong, tostring(pid)).status)
      end
    end)
  end)

  it("ends with a message when the program ends", function()
    with_program("co.spawn(function() co.sleep(1.5) os.exit(0) end)\n" .. READY .. "mp.sleep(1000)", function(pid)
      in_terminal(pid, function(screen) screen("status 1", "the program with pid " .. pid .. " has ended") end)
    end)
  end)
end)
