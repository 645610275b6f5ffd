--- This side's end of a pipe to or from a program, which it owns. Each call is one unit, whichever tasks
--- call. A read that is cancelled or times out leaves what it had to the next. A pipe that carries much is
--- made larger once.
local core = require "mpengine.core"
local check = require "mpengine.check"
local order = require "mpengine.monkey.order"
local reader = require "mpengine.monkey.reader"

local pipe = {}

local EPIPE = 32
local PIECE, PIECE_MAX = 64 << 10, 1 << 20 -- bytes of one read; the first is all that a pipe has at first

---@class mpengine.subprocess.pipe_state
---@field fd integer? nil: closed
---@field name "stdin"|"stdout"|"stderr" what it is for the program
---@field reader mpengine.reader? of one that is read
---@field writing mpengine.order? of one that is written
---@field lent boolean? another program has it too, so that reading and writing may block
---@field grown boolean?
local state = setmetatable({}, { __mode = "k" }) -- pipe -> its state

---@class mpengine.subprocess.Pipe
local Pipe = { __name = "mp.subprocess.Pipe" }

local methods = {}
Pipe.__index = methods

local function grow(s)
    if s.grown then return end
    s.grown = true
    core.pipe_grow(s.fd)
end

local function left(deadline) return deadline and math.max(0, deadline - core.now()) end

local function fill(s, wanted, deadline)
    while s.fd do
        if s.lent and not core.wait_fd(s.fd, "r", left(deadline)) then return nil, "timeout" end
        local bytes, why, errno = core.fd_read(s.fd, math.max(PIECE, math.min(wanted or PIECE, PIECE_MAX)))
        if bytes then
            if #bytes >= PIECE then grow(s) end
            return bytes
        end
        if why ~= "again" then return nil, why, errno end
        if not core.wait_fd(s.fd, "r", left(deadline), true) then return nil, "timeout" end
    end
    return nil, "closed"
end

local function write_all(s, bytes)
    local at = 1
    while at <= #bytes do
        if not s.fd then return nil, "closed" end
        if s.lent then core.wait_fd(s.fd, "w") else core.look() end
        local last, why, errno = core.fd_write(s.fd, bytes, at)
        if last then
            at = last + 1
        elseif why == "again" then
            if #bytes - at >= PIECE then grow(s) end
            core.wait_fd(s.fd, "w", nil, true)
        else
            return nil, errno == EPIPE and "closed" or why
        end
    end
    return true
end

--- The state of an open pipe that does the named thing ("reader" or "writing").
local function check_pipe(self, call, does)
    local s = state[self]
    if not s then check.bad_self(call, "mp.subprocess.Pipe", self) end
    if does and not s[does] then
        error(("%s: the program's %s is %s"):format(call, s.name, does == "reader" and "written, not read"
            or "read, not written"))
    end
    if does and not s.fd then error(("%s: the pipe to the program's %s is closed"):format(call, s.name)) end
    return s
end

local function done(value, why)
    core.did(true)
    if why then return nil, why end
    return value
end

--- Reads for a call of this name, as Pipe:read.
function pipe.read(call, self, format, timeout)
    local s = check_pipe(self, call, "reader")
    check.timeout(call, 2, timeout)
    return done(s.reader:read_by(timeout and core.now() + timeout, call, format == nil and "l" or format))
end

--- Writes for a call of this name, as Pipe:write.
function pipe.write(call, self, bytes)
    local s = check_pipe(self, call, "writing")
    if type(bytes) ~= "string" and type(bytes) ~= "number" then check.fail(call, 1, "string", bytes) end
    s.writing:enter()
    return done(s.writing:run(write_all, s, tostring(bytes)))
end

--- An iterator over the lines, for a call of this name.
function pipe.lines(call, self, format)
    check_pipe(self, call, "reader")
    return function()
        local value, why = pipe.read(call, self, format)
        if value == nil and why then error(("%s: %s"):format(call, why)) end
        return value
    end
end

--- Reads n bytes, fewer at the end; a line, "l" without and "L" with its end; or all, "a". Without a
--- format "l".
---@param format? integer|"l"|"L"|"a"|"n"
---@param timeout? number seconds
---@return string|number|nil value nil at the end
---@return string? reason "timeout", "closed" by another task, or a message
function methods:read(format, timeout) return pipe.read("Pipe:read", self, format, timeout) end

--- Writes all of the bytes.
---@param bytes string
---@return true? written
---@return string? reason "closed": the program has ended, or has closed its end
function methods:write(bytes) return pipe.write("Pipe:write", self, bytes) end

--- The lines, for a generic for.
---@param format? integer|"l"|"L"|"n"
function methods:lines(format) return pipe.lines("Pipe:lines", self, format) end

local function release(s)
    local fd = s.fd
    s.fd = nil
    if fd then core.fd_close(fd) end
end

-- The state is collected with the pipe, and no script can finalize it before.
local State = { __gc = release }

--- Closes it; tasks that read or write it get nil, "closed". Harmless when it is closed.
function methods:close() release(check_pipe(self, "Pipe:close")) end

Pipe.__close = methods.close

function Pipe:__tostring()
    local s = check_pipe(self, "tostring")
    return ("mp.subprocess.Pipe: %s%s"):format(s.name, s.fd and "" or " (closed)")
end

--- A pipe that owns fd.
---@param fd integer
---@param name "stdin"|"stdout"|"stderr"
---@param lent boolean? another program has it too
---@return mpengine.subprocess.Pipe
function pipe.new(fd, name, lent)
    local s = setmetatable({ fd = fd, name = name, lent = lent or nil }, State)
    if name == "stdin" then
        s.writing = order.new()
    else
        s.reader = reader.new(function(wanted, deadline) return fill(s, wanted, deadline) end)
    end
    local self = setmetatable({}, Pipe)
    state[self] = s
    return self
end

function pipe.is(value) return state[value] ~= nil end

--- For another process: its descriptor or nil, its name, whether a program has it too, and whether it has bytes
--- that were read and not taken.
function pipe.pass(self)
    local s = state[self]
    return s.fd, s.name, s.lent, s.reader and s.reader:has_data()
end

--- For another program: its descriptor and "r" or "w", what can be done with it; false when it is closed.
--- Nothing when the object is no pipe.
function pipe.lend(self)
    local s = state[self]
    if not s then return nil end
    s.lent = s.fd ~= nil
    return s.fd or false, s.reader and "r" or "w"
end

return pipe
