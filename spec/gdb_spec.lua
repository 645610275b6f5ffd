-- The script for gdb: Lua stacks of a process that runs and of a core, without debug information.
local support = require "spec.support"
local quote, shell = support.quote, support.shell

local SCRIPT = support.root .. "/packaging/gdb/mpengine.py"
local GDB = "env -u LD_PRELOAD gdb -nx " -- without the library of a sanitizer, beside which gdb hangs
local COMMAND = " -batch -x " .. quote(SCRIPT) .. " -ex mpengine-stacks </dev/null 2>&1"

-- A program whose tasks wait in all ways that show: it prints its number when they do.
local PROGRAM = [[
local mp = require "mpengine"
local co = mp.co
local q = mp.Queue()
local function take(from) return (from:get()) end
local function consumer()
  local item = take(q)
  return item
end
local each = coroutine.wrap(function()
  local function inner() mp.sleep(1000) end
  inner()
end)
co.spawn(consumer)
co.spawn(function()
  local item = each()
  return item
end)
KEPT = coroutine.create(function() coroutine.yield() end)
coroutine.resume(KEPT)
local function deep(n)
  if n > 0 then return 1 + deep(n - 1) end
  for _ in pairs{ 1 } do load("mp.Event():wait()", "=loaded", "t", { mp = mp })() end
end
local function run()
  co.sleep(0)
  print(mp.current_process().pid)
  io.stdout:flush()
  local ok = pcall(deep, 2)
  return ok
end
run()
]]

-- Each of these is in the output, in this order. Numbers after a colon are lines of PROGRAM.
local STACKS = {
  "\nprocess %d+, Lua 5%.%d%.%d, 1 Lua state with mpengine\n",
  "\ntask 1, the main one: waiting\n",
  "\n    %[C%]: in method 'wait' %(%S+%)\n    loaded:1: in main chunk\n    script:22: in upvalue 'deep'\n",
  "    script:21: in upvalue 'deep'\n    script:21: in function <script:20>\n    %[C%]: in global 'pcall' %(%S+%)\n",
  "    script:28: in local 'run'\n    script:31: in main chunk\n",
  "\ntask 2: waiting\n    %[C%]: in method 'get' %(%S+%)\n    script:4: in upvalue 'take'\n"
    .. "    script:6: in function <script:5>\n",
  "\ntask 3: waiting\n    %[C%]: in field 'sleep' %(%S+%)\n    script:10: in local 'inner'\n"
    .. "    script:11: in function <script:9>\n    %[C%]: in upvalue 'each' %(%S+%)\n"
    .. "    script:15: in function <script:14>\n",
  "\ncoroutine 0x%x+\n    %[C%]: in field 'yield' %(%S+%)\n    script:18: in function <script:18>\n",
}

local function expect(text)
  local at = 1
  for _, pattern in ipairs(STACKS) do
    local _, last = text:find(pattern, at)
    assert.truthy(last, pattern .. " is not behind " .. at .. " in\n" .. text)
    at = last
  end
end

-- Runs f(pid) beside the program; command: what runs a script.
local function beside(command, f)
  local dir = os.tmpname() .. ".d"
  shell("mkdir -m 700 " .. quote(dir))
  support.write_file(dir .. "/program.lua", PROGRAM)
  support.write_file(dir .. "/start.lua", ([[
    local f = assert(io.open(%q))
    local text = f:read("a")
    f:close()
    assert(load(text, "=script"))()]]):format(dir .. "/program.lua"))
  local program = assert(io.popen(("exec timeout -s KILL 60 %s %s"):format(command, quote(dir .. "/start.lua"))))
  local pid = program:read("n")
  assert.truthy(pid, "the program did not start")
  local good, err = pcall(f, math.tointeger(pid), dir)
  shell("kill -KILL " .. math.tointeger(pid))
  program:close()
  shell("rm -rf " .. quote(dir))
  if not good then error(err, 0) end
end

-- Once it sleeps.
local function wait_asleep(pid)
  assert.is_true(support.eventually(function()
    return support.read_file("/proc/" .. pid .. "/stat"):match "%) (%a)" == "S"
  end))
end

local refused
do
  local child = shell("sleep 60 & " .. GDB .. "-p $! -batch </dev/null 2>&1; kill $!")
  refused = child:find("not found", 1, true) and "there is no gdb"
    or child:find("ptrace", 1, true) and "processes may not be examined here (ptrace)"
end

local function case(text, f)
  it(text, function()
    if refused then return pending(refused) end
    f()
  end)
end

describe("mpengine-stacks in gdb", function()
  case("has the stacks of all tasks and coroutines of a process that runs", function()
    for _, command in ipairs{ quote(support.command), support.stock_command() } do
      beside(command, function(pid)
        wait_asleep(pid)
        expect(shell(GDB .. "-p " .. pid .. COMMAND))
      end)
    end
  end)

  case("needs no symbols beyond those that are exported", function()
    local stripped = os.tmpname()
    shell(("strip -o %s %s"):format(quote(stripped), quote(support.command)))
    beside(quote(stripped), function(pid)
      wait_asleep(pid)
      expect(shell(GDB .. "-p " .. pid .. COMMAND))
    end)
    os.remove(stripped)
  end)

  case("has them of a core too", function()
    if support.read_file("/proc/self/maps"):find("libasan", 1, true) then
      return pending "a core has all that the address sanitizer reserves, gigabytes"
    end
    beside(quote(support.command), function(pid, dir)
      wait_asleep(pid)
      shell(("env -u LD_PRELOAD gcore -o %s %d </dev/null >/dev/null 2>&1"):format(quote(dir .. "/core"), pid))
      expect(shell((GDB .. "%s %s/core.%d"):format(quote(support.command), quote(dir), pid) .. COMMAND))
    end)
  end)

  case("shows a child in a new program, whose function runs in a coroutine of its own", function()
    local script = os.tmpname()
    support.write_file(script, [[
      local mp = require "mpengine"
      mp.set_start_method("spawn")
      local p = mp.Process{ target = function()
        local function stay() mp.sleep(60) end
        print(mp.current_process().pid)
        io.stdout:flush()
        stay()
      end }
      p:start()
      p:join()]])
    local program = assert(io.popen(quote(support.command) .. " " .. script .. " 2>/dev/null"))
    local pid = math.tointeger(program:read("n"))
    wait_asleep(pid)
    local text = shell(GDB .. "-p " .. pid .. COMMAND)
    shell("kill " .. pid)
    program:close()
    os.remove(script)
    assert.truthy(text:find("%[C%]: in field 'sleep' %(%S+%)\n    " .. script .. ":4: in local 'stay'\n    "
      .. script .. ":7: in local 'target'\n"), text)
  end)

  case("says what a program lacks that it cannot examine", function()
    local text = shell("sleep 60 & " .. GDB .. "-p $!" .. COMMAND .. "; kill $!")
    assert.truthy(text:find("mpengine-stacks: there is no Lua in this program", 1, true), text)
    local lua = assert(io.popen("lua5.4 -e 'io.popen[[sleep 60]]:read()' >/dev/null 2>&1 & echo $!; wait"))
    local pid = math.tointeger(lua:read("n"))
    wait_asleep(pid)
    text = shell(GDB .. "-p " .. pid .. COMMAND)
    shell("kill " .. pid)
    lua:close()
    assert.truthy(text:find("mpengine-stacks: mpengine is not loaded in this program", 1, true), text)
  end)
end)
