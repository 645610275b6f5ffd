-- What the specs of readers share: programs that are looked at from outside, and JSON.
local support = require "spec.support"
local quote, shell = support.quote, support.shell

-- Runs the code as a program. Once it has printed a line, calls look(pid, the program's directory, line);
-- then it is killed with all its processes. Its standard error goes into the file `stderr` there.
local function with_program(code, look, opts)
  opts = opts or {}
  local dir = shell("mktemp -d"):gsub("\n", "")
  support.write_file(dir .. "/script.lua", "local mp = require 'mpengine' local co = mp.co " .. code)
  local command = opts.stock and support.stock_command() or quote(support.command)
  local program <close> = setmetatable({}, {
    __close = function()
      shell(("kill -KILL -$(cat %s/pid) 2>/dev/null; rm -rf %s"):format(quote(dir), quote(dir)))
    end,
  })
  if opts.env then command = "env " .. opts.env .. " " .. command end
  local pipe = io.popen(("cd %s && exec setsid sh -c 'echo $$ >pid; exec %s script.lua 2>stderr'"):format(quote(dir),
    (command:gsub("'", "'\\''"))))
  local line = pipe:read()
  local pid = tonumber((support.read_file(dir .. "/pid")))
  look(pid, dir, line, pipe)
  return program
end

local function mpengine(...)
  local words = { support.limit, quote(support.command), ... }
  local err = os.tmpname()
  local out = shell(table.concat(words, " ") .. " 2>" .. err .. "; echo $?")
  local errors = support.read_file(err)
  os.remove(err)
  local stdout, status = out:match("^(.-)(%d+)\n$")
  return { status = tonumber(status), stdout = stdout, stderr = errors }
end

-- A reader has begun: the program has mapped its rings once a task runs in it, or the reader has a question.
local function has_begun(verb, pid, reader)
  local file, name = "/proc/" .. pid .. "/maps", "memfd:trace-mpengine"
  if verb == "profile" then file, name = "/proc/" .. reader .. "/fd", "memfd:mpengine-question" end
  return shell(("ls -l %s/ 2>/dev/null; cat %s 2>/dev/null"):format(file, file)):find(name, 1, true) ~= nil
end

-- Runs `mpengine VERB pid -o path` until it has begun and meanwhile(reader) has returned, and interrupts it then,
-- unless that has ended the program: the status and all that it printed.
local function read_while(verb, pid, path, meanwhile)
  local reader <close> = assert(io.popen(("echo $$; exec %s %s %d -o %s --seconds 1000 2>&1"):format(
    quote(support.command), verb, pid, quote(path))))
  local number = reader:read("n", "l")
  local good, err = pcall(function()
    assert(support.eventually(function() return has_begun(verb, pid, number) end), "the reader has not begun")
    meanwhile(number)
  end)
  shell(("kill -%s %d 2>/dev/null"):format(good and "INT" or "KILL", number))
  local printed = reader:read "a"
  if not good then error(err, 0) end
  local _, _, status = reader:close()
  return status, printed
end

local function says(text, ...)
  for _, part in ipairs { ... } do
    if not text:find(part, 1, true) then error(("'%s' is not in\n%s"):format(part, text), 2) end
  end
end

-- JSON as Lua values, strictly.
local function json(text)
  local at = 1
  local value
  local function fail(what) error(("JSON: %s at %d: %s"):format(what, at, text:sub(at, at + 40)), 0) end
  local function take(pattern)
    local found, stop = text:match("^(" .. pattern .. ")()", at)
    if found then at = stop end
    return found
  end
  local function string_value()
    local s = take('"[^"\\%c]*"') or fail "string"
    return s:sub(2, -2)
  end
  local function any_string()
    local whole = text:match('^"([^"\\%c]*)"', at)
    if whole then return string_value() end
    local stop = at + 1
    while text:sub(stop, stop) ~= '"' do
      if text:sub(stop, stop) == "" then fail "open string" end
      stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
    end
    local s = text:sub(at + 1, stop - 1)
    at = stop + 1
    return (s:gsub('\\(["\\/])', "%1"))
  end
  local function list(close, item)
    local t = {}
    take "%s*"
    if take(close) then return t end
    repeat item(t) take "%s*" until not take ","
    if not take(close) then fail("expected " .. close) end
    return t
  end
  function value()
    take "%s*"
    if take "%[" then return list("%]", function(t) t[#t + 1] = value() end) end
    if take "{" then
      return list("}", function(t)
        take "%s*"
        local key = any_string()
        if not take "%s*:" then fail "colon" end
        t[key] = value()
      end)
    end
    if text:sub(at, at) == '"' then return any_string() end
    local word = take "true" or take "false" or take "null"
    if word then return ({ ["true"] = true, ["false"] = false })[word] end
    return tonumber(take "%-?%d+%.?%d*[eE]?[+-]?%d*") or fail "value"
  end
  local result = value()
  take "%s*"
  if at <= #text then fail "rest" end
  return result
end

return { with_program = with_program, mpengine = mpengine, read_while = read_while, says = says, json = json }
