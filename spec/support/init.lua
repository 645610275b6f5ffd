-- Shared by all specs: running a script as a separate program, and checking its outcome.
--
-- A scenario that forks, waits or dies runs as a child program, under a hard
-- timeout, so that a hang is a failure and a crash fails one case only. Its code
-- is preceded, on its first line, by the helpers in PRELUDE, so that line
-- numbers in its messages are those of the code in the spec.
--
--   MPENGINE             the command           (build/mpengine)
--   MPENGINE_SPEC_MODE   "command" | "stock"   how a scenario is run by default
--   LUA_PATH, LUA_CPATH  where stock lua5.4 finds the module  (build/lua)
--   MPE_TEST_SLOW        all limits are so many times longer
--   MPENGINE_PROGRAMS    a tree that is built with LUA_DIR: its interpreter is the stock Lua of scenarios

local support = {}

-- Limits only end what hangs, so they are longer than what a loaded machine takes.
local SLOW = tonumber(os.getenv "MPE_TEST_SLOW") or 1
local SCENARIO_SECONDS = 60 * SLOW
local UNTIL_SECONDS = 30 * SLOW

--- The beginning of a shell command that ends what hangs.
support.limit = ("timeout -k 5 %d"):format(SCENARIO_SECONDS)

local function shell(command)
  local f = assert(io.popen(command))
  local text = f:read("a")
  f:close()
  return text
end

local function quote(s)
  return "'" .. tostring(s):gsub("'", "'\\''") .. "'"
end

local function read_file(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read("a")
  f:close()
  return text
end

local function write_file(path, text)
  local f = assert(io.open(path, "wb"))
  f:write(text)
  f:close()
end

local here = debug.getinfo(1, "S").source:match("^@(.*)/init%.lua$")
support.root = shell("cd " .. quote(here .. "/../..") .. " && pwd"):gsub("\n$", "")

local function absolute(path)
  return path:sub(1, 1) == "/" and path or support.root .. "/" .. path
end

support.command = absolute(os.getenv("MPENGINE") or "build/mpengine")
support.lua_version = shell(quote(support.command) .. " -v"):match("%(Lua (%d+%.%d+)%)") -- in the command
support.mode = os.getenv("MPENGINE_SPEC_MODE") or "command"
support.quote, support.shell, support.read_file, support.write_file = quote, shell, read_file, write_file

local build_lua = support.root .. "/build/lua"
local lua_path = os.getenv("LUA_PATH_5_4") or os.getenv("LUA_PATH")
  or ("%s/?.lua;%s/?/init.lua;;"):format(build_lua, build_lua)
local lua_cpath = os.getenv("LUA_CPATH_5_4") or os.getenv("LUA_CPATH") or build_lua .. "/?.so;;"

local stock_lua = "lua5.4"
local programs = os.getenv("MPENGINE_PROGRAMS")
if programs == "" then programs = nil end
if programs then
  lua_path, lua_cpath = ("%s/lua/?.lua;%s/lua/?/init.lua;;"):format(programs, programs), programs .. "/lua/?.so;;"
  stock_lua = programs .. "/lua-stock"
end
support.lua_release = shell(quote(stock_lua) .. " -v"):match("Lua (%d+%.%d+%.%d+)")

-- Ends the case that runs; the pending of its own environment is not to be had here.
local function pending(reason)
  require("busted.core")().pending(reason)
end

-- Libraries of the system that a Lua of LUA_DIR may not have.
local LIBRARIES = { socket = "LuaSocket", ssl = "LuaSec", luv = "luv", busted = "busted" }

--- Ends the case as pending if the message says that such a library was not found.
function support.skip_without_library(text)
  local library = programs and LIBRARIES[text:match "module '(%w+)[%w.]*' not found"]
  if library then
    pending(("needs %s for Lua %s"):format(library, support.lua_version))
  end
end

--- Ends the case as pending with a Lua that is older than the release ("5.4.3"), for the reason.
function support.since(release, reason)
  local function number(text)
    local major, minor, patch = text:match "(%d+)%.(%d+)%.(%d+)"
    return (major * 100 + minor) * 100 + patch
  end
  if number(support.lua_release) < number(release) then
    pending(("Lua before %s %s"):format(release, reason))
  end
end

--- How deep a function of Lua may call itself: 5.4.0 and 5.4.1 count such calls as C calls.
support.deep = support.lua_release:find "^5%.4%.[01]$" and 1500 or 150000

-- A mistake in a relative LUA_PATH would show as "module not found" in programs
-- that are started elsewhere, so each element is made absolute.
local function absolute_path(list)
  return (list:gsub("[^;]+", function(p)
    if p:sub(1, 1) == "/" then return p end
    return support.root .. "/" .. p
  end))
end
lua_path, lua_cpath = absolute_path(lua_path), absolute_path(lua_cpath)

-- The helpers of a scenario, all local, one line.
--   eq(got, want [, what])     deep equality, NaN equal to itself, 1 and 1.0 distinct
--   raises(patterns, f, ...)   f raises, with all the plain patterns in the message; the error value
--   P(f, ...)                  a started process
--   all(list)                  joins all of them, each must exit with 0
--   dead(pid), wait_dead(pid)  no such process, or a zombie; waits for it, as until_true
--   asleep(pid)                returns once the process sleeps in the kernel
--   until_true(f)              calls f again and again until it is true, at most UNTIL_SECONDS
--   kill(pid [, signal])       sends a signal, KILL by default; 0 is the calling process; with STOP it returns
--                              once the process is stopped
--   now()                      seconds, wall clock
--   late(from, seconds)        at least that many seconds have passed since from
local PRELUDE = [==[
local mp = require "mpengine"
local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) == "number" then return (a ~= a and b ~= b) or (a == b and math.type(a) == math.type(b)) end
  if type(a) ~= "table" or a == b then return a == b end
  for k, v in pairs(a) do if not same(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end
local function show(v, depth)
  if type(v) == "string" then return string.format("%q", v) end
  if type(v) ~= "table" or (depth or 0) > 3 then return tostring(v) end
  local t = {}
  for k, x in pairs(v) do t[#t + 1] = tostring(k) .. "=" .. show(x, (depth or 0) + 1) end
  table.sort(t)
  return "{" .. table.concat(t, ", ") .. "}"
end
local function eq(got, want, what)
  if not same(got, want) then
    error((what and what .. ": " or "") .. "expected " .. show(want) .. ", got " .. show(got), 2)
  end
end
local function raises(patterns, f, ...)
  local ok, err = pcall(f, ...)
  if ok then error("no error was raised", 2) end
  local text = tostring(err)
  for _, p in ipairs(type(patterns) == "table" and patterns or { patterns }) do
    if not text:lower():find(p:lower(), 1, true) then
      error("the error does not say '" .. p .. "': " .. text, 2)
    end
  end
  return err
end
local function P(f, ...)
  local p = mp.Process(f, ...)
  p:start()
  return p
end
local function all(list)
  for i, p in ipairs(list) do
    p:join()
    if p.exitcode ~= 0 then error("process " .. i .. " ended with " .. tostring(p.exitcode), 2) end
  end
end
local function state(pid)
  local f = io.open("/proc/" .. pid .. "/stat")
  if not f then return "gone" end
  local s = f:read("a")
  f:close()
  return s and s:match("%) (%a)") or "gone"
end
local function dead(pid)
  local s = state(pid)
  return s == "gone" or s == "Z" or s == "X"
end
local function now()
  local f = io.open("/proc/uptime")
  local t = f:read("n")
  f:close()
  return t
end
local function until_true(f, ...)
  local limit = now() + UNTIL_SECONDS
  while not f(...) do
    if now() > limit then error("did not come true within UNTIL_SECONDS seconds", 2) end
    mp.sleep(0.005)
  end
end
local function wait_dead(pid) until_true(dead, pid) end
local function asleep(pid)
  local quiet = 0
  until_true(function()
    quiet = state(pid) == "S" and quiet + 1 or 0
    return quiet >= 4
  end)
end
local function descriptors(pid)
  local n = 0
  for i = 0, 1023 do
    local f = io.open(("/proc/%s/fdinfo/%d"):format(pid or "self", i))
    if f then f:close() n = n + 1 end
  end
  return n
end
local function kill(pid, signal)
  os.execute("kill -" .. (signal or "KILL") .. " " .. (pid == 0 and "$PPID" or pid))
  if signal == "STOP" and pid ~= 0 then until_true(function() return state(pid) == "T" or dead(pid) end) end
end
local function late(from, seconds)
  local passed = now() - from
  if passed < seconds - 0.011 then error("returned after " .. passed .. " s, before " .. seconds, 2) end
end
]==]
-- Long enough for the longest of them, on one line, and without unused helpers.
local helpers = {}
local order = { "same", "show", "eq", "raises", "P", "all", "state", "dead", "now", "until_true",
  "wait_dead", "asleep", "descriptors", "kill", "late" }
do
  local name, text
  for line in PRELUDE:gsub("UNTIL_SECONDS", UNTIL_SECONDS):gmatch("[^\n]+") do
    local start = line:match("^local function (%w[%w_]*)")
    if start then
      if name then helpers[name] = text end
      name, text = start, line
    elseif name then
      text = text .. " " .. line
    end
  end
  helpers[name] = text
end

-- The helpers that the code uses, and the helpers those use, in order.
local function prelude_for(code)
  local used, text = {}, code
  for i = #order, 1, -1 do
    local name = order[i]
    if text:find("%f[%w_]" .. name .. "%f[^%w_]") then
      used[name] = true
      text = text .. "\n" .. helpers[name]
    end
  end
  local parts = {}
  if text:find("%f[%w_]mp%f[^%w_]") then parts[1] = 'local mp = require "mpengine"' end
  for _, name in ipairs(order) do
    if used[name] then parts[#parts + 1] = helpers[name] end
  end
  return table.concat(parts, " ")
end

--- The beginning of a shell command that runs a script under stock Lua.
function support.stock_command()
  return ("env LUA_INIT= LUA_PATH=%s LUA_CPATH=%s %s"):format(quote(lua_path), quote(lua_cpath), quote(stock_lua))
end

local counter = 0

--- Runs a script as a program and waits for it.
--- opts: mode ("command" | "stock"), file (instead of code), args and flags (lists), stdin (text),
--- timeout (seconds, where SCENARIO_SECONDS are too few), cut (seconds, of a program that goes on), env
--- (a table), plain (no helpers), cwd, session (its own session and process group),
--- through (a shell filter for its stdout), before (shell commands, for example for limits), under
--- (the beginning of a command line that runs the program), closed (a list of the standard
--- descriptors that are closed in it).
---@return table result { status, stdout, stderr, script, timed_out }
function support.run(code, opts)
  opts = opts or {}
  counter = counter + 1
  local base = os.tmpname()
  local dir = base .. ".d"
  shell("rm -f " .. quote(base) .. "; mkdir -m 700 " .. quote(dir))
  local script = opts.file and absolute(opts.file)
  if code then
    script = dir .. "/script.lua"
    if not opts.plain then code = prelude_for(code) .. " " .. code end
    write_file(script, code)
  end
  write_file(dir .. "/stdin", opts.stdin or "")

  local words = { "cd", quote(opts.cwd or support.root), "&&" }
  if opts.before then words[#words + 1] = "{ " .. opts.before .. "; } &&" end
  words[#words + 1] = "env"
  if programs then
    words[#words + 1] = "LUA_PATH=" .. quote(lua_path) .. " LUA_CPATH=" .. quote(lua_cpath)
  end
  for k, v in pairs(opts.env or {}) do words[#words + 1] = k .. "=" .. quote(v) end
  local stock = (opts.mode or support.mode) == "stock"
  words[#words + 1] = "LUA_INIT= LUA_INIT_5_4="
  if stock then
    words[#words + 1] = "LUA_PATH=" .. quote(lua_path) .. " LUA_CPATH=" .. quote(lua_cpath)
  end
  words[#words + 1] = ("timeout -k 5 %g"):format(opts.cut or math.max((opts.timeout or 0) * SLOW, SCENARIO_SECONDS))
  if opts.session then words[#words + 1] = "setsid -w" end
  if opts.under then words[#words + 1] = opts.under end
  words[#words + 1] = stock and quote(stock_lua) or quote(support.command)
  for _, flag in ipairs(opts.flags or {}) do words[#words + 1] = quote(flag) end
  if script then words[#words + 1] = quote(script) end
  for _, a in ipairs(opts.args or {}) do words[#words + 1] = quote(a) end
  local line = table.concat(words, " ") .. " <" .. quote(dir .. "/stdin") .. " 2>" .. quote(dir .. "/stderr")
  if opts.closed or opts.before then
    line = "( " .. line
    for _, fd in ipairs(opts.closed or {}) do line = line .. (" %d>&-"):format(fd) end
    line = line .. " )"
  end
  if opts.through then
    line = "{ " .. line .. "; echo $? >" .. quote(dir .. "/status") .. "; } | " .. opts.through
      .. " >" .. quote(dir .. "/stdout")
  else
    line = "{ " .. line .. " >" .. quote(dir .. "/stdout") .. "; }; echo $? >" .. quote(dir .. "/status")
  end
  shell("exec 2>/dev/null; " .. line)

  local result = {
    status = tonumber(read_file(dir .. "/status")),
    stdout = read_file(dir .. "/stdout"),
    stderr = read_file(dir .. "/stderr"),
    script = script,
  }
  result.timed_out = result.status == 124
  shell("rm -rf " .. quote(dir))
  support.skip_without_library(result.stdout .. result.stderr)
  return result
end

local function describe_result(result)
  return ("status %s%s\n-- stdout --\n%s\n-- stderr --\n%s"):format(result.status,
    result.timed_out and " (timed out)" or "", result.stdout:sub(1, 4000), result.stderr:sub(1, 4000))
end

local function fail(what, result)
  error(what .. "\n" .. describe_result(result), 3)
end

--- The scenario exits with status 0 and writes nothing to stderr.
function support.ok(code, opts)
  local result = support.run(code, opts)
  if result.status ~= 0 then fail("expected it to end well", result) end
  if result.stderr ~= "" then fail("expected nothing on stderr", result) end
  return result
end

--- The scenario exits with status 0 and prints exactly this.
function support.prints(expected, code, opts)
  local result = support.run(code, opts)
  if result.status ~= 0 or result.stdout ~= expected or result.stderr ~= "" then
    fail("expected it to print\n" .. expected, result)
  end
  return result
end

--- The code prints the same under the command as under stock Lua without mpengine.
---@return table result of the command
function support.as_stock(code, opts)
  opts = opts or {}
  opts.plain, opts.mode = true, "stock"
  local stock = support.run(code, opts)
  if stock.status ~= 0 or stock.stdout == "" then fail("stock Lua should end well and print something", stock) end
  opts.mode = "command"
  local result = support.run(code, opts)
  if result.status ~= 0 or result.stdout ~= stock.stdout then
    fail("expected it to print, as stock Lua does,\n" .. stock.stdout, result)
  end
  return result
end

local function has(text, wanted)
  return text:lower():find(wanted:lower(), 1, true) ~= nil
end

--- The scenario exits with this status, and its stderr contains all these plain texts.
function support.ends(status, texts, code, opts)
  local result = support.run(code, opts)
  if result.status ~= status then fail("expected status " .. status, result) end
  for _, t in ipairs(texts) do
    if not has(result.stderr, t) then fail("expected stderr to say '" .. t .. "'", result) end
  end
  return result
end

-- How a message about a wrong argument may name what was expected.
local EXPECTATION = { "expected", "must", "range", "not a valid", "at least", "at most", "cannot", "only", "fit",
  "needs", "already", "not ", "too " }

--- In-process: f raises, and the message contains, for each element of `parts`, that text or one of
--- those texts, and names what was expected.
function support.misuse(parts, f, ...)
  local good, err = pcall(f, ...)
  if good then error("no error was raised", 2) end
  local text = tostring(err)
  for _, part in ipairs(parts) do
    local found = false
    for _, alternative in ipairs(type(part) == "table" and part or { part }) do
      found = found or has(text, alternative)
    end
    if not found then
      error("the message does not say '" .. (type(part) == "table" and table.concat(part, "' or '") or part)
        .. "': " .. text, 2)
    end
  end
  local expects = false
  for _, word in ipairs(EXPECTATION) do expects = expects or has(text, word) end
  if not expects then error("the message does not say what was expected: " .. text, 2) end
  return err
end

--- Waits for an outside condition, at most UNTIL_SECONDS; checks ten times a second.
---@return boolean it has come true
function support.eventually(f)
  local limit = os.time() + UNTIL_SECONDS
  repeat
    if f() then return true end
    shell("sleep 0.1")
  until os.time() > limit
  return false
end

--- True if there is no such process, or it is a zombie.
function support.dead(pid)
  local f = io.open("/proc/" .. pid .. "/stat")
  if not f then return true end
  local s = f:read("a")
  f:close()
  return not s or s:match("%) ([ZX])") ~= nil
end

--- Starts a server script of this directory with stock lua5.4; it prints its port first.
---@return table server { port, url, stop }
function support.server(name, ...)
  local words = { "exec timeout -k 1 300 lua5.4", quote(support.root .. "/spec/support/" .. name) }
  for _, a in ipairs{ ... } do words[#words + 1] = quote(a) end
  local f = assert(io.popen(table.concat(words, " "), "r"))
  local port = assert(f:read("n"), "the server did not start")
  local pid = assert(f:read("n"), "the server told no pid")
  local server = { port = math.tointeger(port), url = ("http://127.0.0.1:%d"):format(port) }
  function server.stop()
    shell(("kill %d 2>/dev/null"):format(pid))
    f:close()
  end
  return server
end

return support
