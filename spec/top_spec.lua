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
        screen("process ", "task main", "q quit  arrows, space scroll")
        press "b"
        screen("by name", "mp.Queue 'never'")
        resize(50, 10)
        width, height = widest(screen("program " .. pid, "q quit"))
        assert.truthy(width <= 50 and height <= 10)
        resize(120, 40)
        screen("sort: c CPU m memory t tasks n name p pid")
        press "q"
        local last = screen "status 0"
        assert.falsy(last:find("PROCESS", 1, true)) -- the screen is as it was before
      end)
    end)
  end)

  it("ends with a message when the program ends", function()
    with_program("co.spawn(function() co.sleep(1.5) os.exit(0) end)\n" .. READY .. "mp.sleep(1000)", function(pid)
      in_terminal(pid, function(screen) screen("status 1", "the program with pid " .. pid .. " has ended") end)
    end)
  end)
end)
