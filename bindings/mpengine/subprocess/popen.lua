--- Popen: a program that runs beside this one, with its standard streams as pipes, files or sockets.
local core = require "mpengine.core"
local check = require "mpengine.check"
local child = require "mpengine.subprocess.child"
local command = require "mpengine.subprocess.command"
local pipe = require "mpengine.subprocess.pipe"

local SIGKILL = 9
local STREAMS = { "stdin", "stdout", "stderr" }
local WORDS = { pipe = true, inherit = true, null = true }
local EXPECTED = { stdin = [["pipe", "inherit", "null", or a file, socket or pipe]] }
EXPECTED.stdout = EXPECTED.stdin
EXPECTED.stderr = EXPECTED.stdin:gsub(", or", [[, "stdout", or]])

-- ---- the streams -----------------------------------------------------------------------------

local function fd_of_socket(call, name, value)
    local known, fd = pcall(function() return value:getfd() end)
    if not known or math.type(fd) ~= "integer" and not math.tointeger(fd) then
        command.wrong_field(call, name, EXPECTED[name], value)
    end
    if fd < 0 then error(("%s: field '%s': the socket is closed"):format(call, name)) end
    local _, has_input = pcall(function() return value:dirty() end)
    if name == "stdin" and has_input == true then
        error(("%s: field '%s': bytes of the socket were received already and are not read"):format(call, name))
    end
    return math.tointeger(fd), "rw"
end

--- The descriptor of a file, socket or pipe, and what can be done with it.
local function fd_of(call, name, value)
    local fd, mode = pipe.lend(value)
    local kind = fd == nil and io.type(value)
    if kind == "file" then
        fd, mode = core.fileno(value)
        if not fd then error(("%s: field '%s': %s"):format(call, name, mode)) end
    elseif fd == nil and not kind then
        fd, mode = fd_of_socket(call, name, value)
    end
    if not fd then error(("%s: field '%s': it is closed"):format(call, name)) end
    local needed = name == "stdin" and "r" or "w"
    if not mode:find(needed, 1, true) then
        error(("%s: field '%s': it is not open for %s"):format(call, name, needed == "r" and "reading" or "writing"))
    end
    return fd
end

local function stream_of(call, name, value)
    if value == nil then return "inherit" end
    if WORDS[value] or name == "stderr" and value == "stdout" then return value end
    if type(value) ~= "userdata" and type(value) ~= "table" then
        command.wrong_field(call, name, EXPECTED[name], value)
    end
    return fd_of(call, name, value)
end

-- ---- the object ------------------------------------------------------------------------------

local state = setmetatable({}, { __mode = "k" })   -- Popen -> its child
local started = setmetatable({}, { __mode = "v" }) -- of this process: pid -> child

---@class mpengine.subprocess.Popen
---@field pid integer
---@field stdin mpengine.subprocess.Pipe?
---@field stdout mpengine.subprocess.Pipe?
---@field stderr mpengine.subprocess.Pipe?
---@field status integer?
---@field program string its name, as it was given
---@field starter integer the process that has started it
local Popen = { __name = "mp.subprocess.Popen" }

core.register("mpengine.subprocess:Popen", Popen)

local methods = {}
Popen.methods = methods

--- One that has arrived from another process has no child here, unless this process has started it.
local function arrived(self)
    local pid, starter = rawget(self, "pid"), rawget(self, "starter")
    local c = starter == core.pid() and started[pid]
    c = c or { owner = starter, pid = pid, program = rawget(self, "program") }
    state[self] = c
    return c
end

local function check_self(self, call)
    local c = state[self]
    if c then return c end
    if debug.getmetatable(self) == Popen then return arrived(self) end
    return check.bad_self("Popen:" .. call, "mp.subprocess.Popen", self)
end

--- The child, of which this process is the parent.
local function check_mine(self, call)
    local c = check_self(self, call)
    if c.owner == core.pid() then return c end
    error(("Popen:%s: only the process that started the program can do that"):format(call))
end

local function check_pipe(self, call, name)
    check_self(self, call)
    local p = rawget(self, name)
    if not p then error(("Popen:%s: the program's %s is not a pipe of this object"):format(call, name)) end
    return p
end

--- Writes all of the bytes to its standard input.
---@return true? written
---@return string? reason "closed": it has ended, or reads no more
function methods:write(bytes) return pipe.write("Popen:write", check_pipe(self, "write", "stdin"), bytes) end

--- Closes its standard input, so that it reads the end of file. Harmless when it is closed.
function methods:close_stdin() check_pipe(self, "close_stdin", "stdin"):close() end

--- Reads from its standard output, as Pipe:read.
function methods:read(format, timeout)
    return pipe.read("Popen:read", check_pipe(self, "read", "stdout"), format, timeout)
end

--- Reads from its standard error.
function methods:read_err(format, timeout)
    return pipe.read("Popen:read_err", check_pipe(self, "read_err", "stderr"), format, timeout)
end

--- The lines of its standard output, for a generic for.
function methods:lines(format) return pipe.lines("Popen:lines", check_pipe(self, "lines", "stdout"), format) end

--- Waits for its exit.
---@param timeout? number seconds
---@return integer? status -n when signal n ended it
---@return "timeout"? reason
function methods:wait(timeout)
    local c = check_mine(self, "wait")
    check.timeout("Popen:wait", 1, timeout)
    local how, why = c:wait(timeout)
    if not how then return nil, why end
    core.did(true)
    return c:status()
end

--- Sends it a signal: false when it has ended already.
---@param signal? string|integer "TERM", "SIGTERM" or 15; KILL by default
---@return boolean? sent
---@return string? message why not
function methods:kill(signal)
    local c = check_mine(self, "kill")
    local known = signal == nil or type(signal) == "string" or math.type(signal) == "integer"
    local number = signal == nil and SIGKILL or known and core.signal_number(signal)
    if not number then check.wrong("Popen:kill", 1, "name or number of a signal expected") end
    if c:poll() then return false end
    local sent, why = core.kill_pid(c.pid, number)
    if not sent then return nil, why end
    return true
end

function Popen:__index(key)
    if key ~= "status" then return methods[key] end
    local c = check_self(self, key)
    core.look()
    return c.owner == core.pid() and c:status() or c.how and c:status() or nil
end

function Popen:__newindex(key)
    error(("Popen: the field '%s' cannot be set"):format(tostring(key)))
end

--- Ends the program, if it runs and is not detached, and closes the pipes.
function Popen:__close()
    local c = check_self(self, "close")
    for _, name in ipairs(STREAMS) do
        local p = rawget(self, name)
        if p then p:close() end
    end
    if c.owner == core.pid() then c:__close() end
end

function Popen:__tostring()
    local c = check_self(self, "tostring")
    local status = c.owner == core.pid() and c:status()
    return ("mp.subprocess.Popen: %s (pid %d, %s)"):format(c.program, c.pid,
        status and "status " .. status or "running")
end

--- Waiting for it (waitable.lua): ready when it has exited.
function Popen:__ready() return check_mine(self, "wait"):poll() ~= nil end

function Popen:__wait_source()
    local c = check_mine(self, "wait")
    if c:poll() then return core.waitlist() end
    return c.pidfd, "the system gives no descriptor for its exit"
end

local own = {}
for _, name in ipairs(STREAMS) do own[name] = { EXPECTED[name], function() return true end } end

--- Starts a program and goes on: Popen{ "sort", stdin = "pipe", stdout = "pipe", cwd =, env = }. A stream
--- is "pipe", "inherit" (the default), "null", or a file, socket or pipe, which is the program's from then
--- on: it is made to block, and should be closed here. stderr = "stdout" joins them. The program ends with
--- this process, however that ends, unless detach = true.
---@param opts table the words of the command, and the fields above
---@return mpengine.subprocess.Popen? program
---@return string? message why it cannot be started
return function(opts)
    check.type("subprocess.Popen", 1, opts, "table")
    local spec = command.parse("Popen", opts, own, "stdin, stdout, stderr")
    for _, name in ipairs(STREAMS) do spec[name] = stream_of("Popen", name, opts[name]) end
    core.let_go() -- a task that is killed starts nothing
    local c, why = child.launch(spec)
    if not c then return nil, why end
    c.program = spec.argv[1]
    local self = { pid = c.pid, program = c.program, starter = c.owner }
    for _, name in ipairs(STREAMS) do
        local fd = c[name]
        c[name] = nil
        if fd then self[name] = pipe.new(fd, name) end
    end
    state[self], started[c.pid] = c, c
    return setmetatable(self, Popen)
end

