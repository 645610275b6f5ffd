-- Runs the programs of the manual and compares what they print with what the page says.
--
--   lua5.4 tools/manual.lua [PAGE...]     from the root: README.md and docs/*.md, or these pages
--
-- A block of code is run when its fence says so; all others are for reading only:
--
--   ```lua run             a program, with the library in the global mp
--   ```lua run file=NAME   the same, and it stays in the file NAME for the blocks after it
--   ```lua file=NAME       only saved
--   ```sh run              commands of the shell, where `mpengine` is the one that was built
--   ```sh start            one command that runs until the page ends; what it prints, or one line, is waited for
--   ```text                directly after one of them: what it prints, errors too
--   ```text sorted         the same, in any order of the lines
--
-- In an output `…` stands for any text within a line, and a line of `…` alone for any number of lines. The
-- blocks of a page run in order, in one directory of its own. In all of them 8080, 8081 and 8082 stand for
-- free ports, and 4711 and 4712 for the processes of the first and the second `sh start`.
--
-- MPENGINE is the command, build/mpengine when absent. Ends with status 1 if a program prints anything
-- else, or ends with another status than 0. spec/manual_spec.lua does the same.

local manual = {}

local LIMIT = 60 * (tonumber(os.getenv "MPE_TEST_SLOW") or 1) -- seconds that a program may take
local PORTS, PIDS = { "8080", "8081", "8082" }, { "4711", "4712" }

local function write(path, text)
  local f <close> = assert(io.open(path, "w"))
  assert(f:write(text))
end

local function output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  return text, pipe:close()
end

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "([^\n]*)\n?" do lines[#lines + 1] = line end
  while lines[#lines] == "" do lines[#lines] = nil end
  return lines
end

-- ---- pages ---------------------------------------------------------------------------------------

-- Its fenced blocks: a list of { line, info, text, after }; after: nothing but empty lines is between it and
-- the block before.
local function fenced(path)
  local blocks, block, after, number = {}, nil, false, 0
  for line in io.lines(path) do
    number = number + 1
    local info = line:match "^```(.*)$"
    if block and info then
      block.text, block = table.concat(block, "\n") .. "\n", nil
      after = true
    elseif block then
      block[#block + 1] = line
    elseif info then
      block = { line = number, info = info, after = after }
      blocks[#blocks + 1] = block
    elseif line ~= "" then
      after = false
    end
  end
  return blocks
end

--- The marked blocks of a page: a list of { line, language, action, file, text, output, sorted }; action is
--- run, start or save.
function manual.programs(path)
  local programs, last = {}, nil
  for _, block in ipairs(fenced(path)) do
    local language, marks = block.info:match "^(%l+) ?(.*)$"
    local file = marks and marks:match "file=(%S+)"
    local action = marks and (marks:match "^run" or marks:match "^start") or file and "save"
    if language == "text" and block.after and last then
      last.output, last.sorted = block.text, marks == "sorted"
    end
    last = nil
    if action and (language == "lua" or language == "sh") then
      last = { line = block.line, language = language, action = action, file = file, text = block.text }
      programs[#programs + 1] = last
    end
  end
  return programs
end

--- The pages that have such blocks.
function manual.pages()
  local pages = {}
  for path in output_of "ls README.md docs/*.md":gmatch "%S+" do
    if manual.programs(path)[1] then pages[#pages + 1] = path end
  end
  return pages
end

-- ---- comparing -----------------------------------------------------------------------------------

local function line_pattern(line)
  local pattern = line:gsub("%p", "%%%0"):gsub("…", ".-")
  return "^" .. pattern .. "$"
end

-- Do the printed lines from p on match the expected ones from e on?
local function matches(printed, expected, p, e)
  if not expected[e] then return not printed[p] end
  if expected[e] == "…" then
    for from = p, #printed + 1 do
      if matches(printed, expected, from, e + 1) then return true end
    end
    return false
  end
  return printed[p] ~= nil and printed[p]:find(line_pattern(expected[e])) ~= nil
    and matches(printed, expected, p + 1, e + 1)
end

--- Whether a program printed what its page says.
function manual.same(printed, expected, sorted)
  printed, expected = lines_of(printed), lines_of(expected)
  if sorted then
    table.sort(printed)
    table.sort(expected)
  end
  return matches(printed, expected, 1, 1)
end

-- ---- running -------------------------------------------------------------------------------------

-- Ports that were free a moment ago.
local function free_ports(count)
  local socket = require "socket"
  local listeners, ports = {}, {}
  for i = 1, count do
    listeners[i] = assert(socket.bind("127.0.0.1", 0))
    local _, port = listeners[i]:getsockname()
    ports[i] = tostring(port)
  end
  for _, listener in ipairs(listeners) do listener:close() end
  return ports
end

local Session = {}
Session.__index = Session

--- What runs the programs of one page. close ends it.
function manual.open()
  local command = output_of("realpath " .. quote(os.getenv "MPENGINE" or "build/mpengine")):match "[^\n]+"
  local session = { dir = output_of "mktemp -d":match "[^\n]+", started = {}, real = {} }
  for i, port in ipairs(free_ports(#PORTS)) do session.real[PORTS[i]] = port end
  -- Without the library of a sanitizer: the command has it inside, and curl hangs beside it.
  session.prefix = ("cd %s; unset LD_PRELOAD; export PATH=%s:$PATH; "):format(quote(session.dir),
    quote(command:match "^(.*)/"))
  return setmetatable(session, Session)
end

function Session:translate(text)
  return (text:gsub("%f[%d]%d%d%d%d%f[%D]", self.real))
end

-- The shell script that is the block.
function Session:script(program)
  local text = self:translate(program.text)
  if program.language == "sh" then return text end
  local file = program.file or "program.lua"
  write(self.dir .. "/" .. file, text)
  return "exec mpengine -l mp=mpengine " .. file
end

-- Reads lines of the started program until they are what the page says.
function Session:start(program)
  local pipe = assert(io.popen(("%stimeout -k 5 %d sh -c %s"):format(self.prefix, 2 * LIMIT,
    quote("echo $$; exec " .. self:script(program)))))
  local pid = pipe:read "l"
  table.insert(self.started, { pid = pid, pipe = pipe })
  self.real[assert(PIDS[#self.started], "too many started programs")] = pid
  local expected = self:translate(program.output or "…\n")
  local printed = ""
  repeat
    local line = pipe:read "L"
    printed = printed .. (line or "(it has ended)\n")
  until not line or manual.same(printed, expected)
  return printed, true
end

--- Runs one of the blocks. Returns true, or nil and what is wrong.
function Session:run(program)
  local printed, ok, how, status
  if program.action == "save" then
    write(self.dir .. "/" .. program.file, self:translate(program.text))
    return true
  elseif program.action == "start" then
    printed, ok = self:start(program)
  else
    printed, ok, how, status = output_of(("%stimeout -k 5 %d sh -c %s 2>&1"):format(self.prefix, LIMIT,
      quote(self:script(program))))
  end
  local expected = program.output and self:translate(program.output)
  if not ok then return nil, ("ended with %s %d:\n%s"):format(how, status, printed) end
  if expected and not manual.same(printed, expected, program.sorted) then
    return nil, ("expected\n%sprinted\n%s"):format(expected, printed)
  end
  return true
end

--- Ends the programs that were started, and removes the directory.
function Session:close()
  for i = #self.started, 1, -1 do
    local program = self.started[i]
    os.execute("kill " .. program.pid .. " 2>/dev/null")
    program.pipe:read "a"
    program.pipe:close()
  end
  os.execute("rm -rf " .. quote(self.dir))
end

if not (arg and arg[0] and arg[0]:find "manual%.lua$") then return manual end

local failed, count = 0, 0
for _, path in ipairs(arg[1] and arg or manual.pages()) do
  local session = manual.open()
  for _, program in ipairs(manual.programs(path)) do
    local ok, problem = session:run(program)
    count = count + 1
    if not ok then
      failed = failed + 1
      io.stderr:write(("%s:%d: %s\n"):format(path, program.line, problem))
    end
  end
  session:close()
end
print(("manual: %d programs, %d wrong"):format(count, failed))
os.exit(failed == 0, true)
