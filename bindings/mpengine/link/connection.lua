--- A pipe end to another program, over a socket that it owns. A message is its size in four bytes, highest
--- first, and an encoded value. Each call is one unit, whichever tasks call. A recv that is cancelled or
--- times out leaves what it had to the next; of a send that is cancelled the next one sends the rest.
local core = require "mpengine.core"
local check = require "mpengine.check"
local order = require "mpengine.monkey.order"

local connection = {}

local HEADER <const> = 4
local MAX <const> = 1 << 30 -- bytes of a message
local PIECE <const> = 256 << 10

---@class mpengine.link.state
---@field fd integer? nil: closed here
---@field ended boolean? the other side has closed it, or sent what is no message
---@field data string input, from `at` on, and the pieces behind it
---@field at integer
---@field pieces string[]
---@field have integer bytes of the input
---@field rest string? the part of a message that is not sent, from `from` on
---@field from integer?
---@field reading mpengine.order
---@field writing mpengine.order
local state = setmetatable({}, { __mode = "k" }) -- connection -> its state

---@class mpengine.Connection
local Connection = { __name = "mp.Connection" }

local methods = {}
Connection.__index, Connection.methods = methods, methods

local function check_open(self, call)
    local s = state[self] or check.bad_self(call, "mp.Connection", self)
    if not s.fd then error(call .. ": the connection is closed") end
    return s
end

local function left(deadline) return deadline and math.max(0, deadline - core.now()) end

-- ---- receiving -------------------------------------------------------------------------------

--- Makes the first n bytes of the input one string.
local function gather(s, n)
    if #s.data - s.at + 1 >= n then return end
    table.insert(s.pieces, 1, s.data:sub(s.at))
    s.data, s.at, s.pieces = table.concat(s.pieces), 1, {}
end

--- The size of the message that comes first, when its header is there.
local function first_size(s)
    if s.have < HEADER then return nil end
    gather(s, HEADER)
    local size = string.unpack(">I4", s.data, s.at)
    if size > MAX then s.ended, s.have, s.data, s.pieces, s.at = true, 0, "", {}, 1 return nil end
    return size
end

local function has_message(s)
    local size = first_size(s)
    return size ~= nil and s.have >= HEADER + size
end

local function take_message(s)
    local size = first_size(s)
    gather(s, HEADER + size)
    local from = s.at + HEADER
    local bytes = s.data:sub(from, from + size - 1)
    s.at, s.have = from + size, s.have - HEADER - size
    if s.have == 0 then s.data, s.at = "", 1 end
    return bytes
end

--- Reads what has arrived: false when that is nothing yet.
local function fill(s)
    local bytes, why = core.fd_read(s.fd, PIECE)
    if why == "again" then return false end
    if not bytes or bytes == "" then
        s.ended = true
    else
        s.pieces[#s.pieces + 1] = bytes
        s.have = s.have + #bytes
    end
    return true
end

--- Whether there is a message or the end, by a deadline.
local function wait_message(s, deadline)
    while s.fd and not has_message(s) and not s.ended do
        if not fill(s) and not core.wait_fd(s.fd, "r", left(deadline), true) then return false end
    end
    return true
end

local function receive(s, deadline)
    if not wait_message(s, deadline) then return nil, "timeout" end
    if s.fd and has_message(s) then return take_message(s) end
    return nil, "closed"
end

local function recv(self, call, timeout)
    local s = check_open(self, call)
    check.timeout(call, 1, timeout)
    local deadline = timeout and core.now() + timeout
    if not s.reading:enter(timeout) then return nil, "timeout" end
    local bytes, why = s.reading:run(receive, s, deadline)
    core.did(bytes)
    if not bytes then return nil, why end
    local decoded, value = core.decode_outside(bytes)
    if not decoded then return nil, "cannot decode: " .. value end
    return true, value
end

local function value_of(received, value)
    if received then return value end
    return nil, value
end

--- Waits for a message.
---@param timeout? number seconds
---@return any value
---@return string? reason "timeout", "closed", or "cannot decode: ..." for what is not taken from another program
function methods:recv(timeout) return value_of(recv(self, "Connection:recv", timeout)) end

--- The same for a message that is a string; raises for another.
---@param timeout? number seconds
---@return string? bytes
---@return string? reason
function methods:recv_bytes(timeout)
    local received, value = recv(self, "Connection:recv_bytes", timeout)
    if received and type(value) ~= "string" then
        error(("recv_bytes: a %s was sent, not bytes"):format(type(value)))
    end
    return value_of(received, value)
end

--- Whether there is a message to receive, or the end. Does not wait without a timeout.
---@param timeout? number seconds
---@return boolean
function methods:poll(timeout)
    local s = check_open(self, "Connection:poll")
    check.timeout("Connection:poll", 1, timeout)
    local there = wait_message(s, core.now() + (timeout or 0))
    core.did(there or nil)
    return there
end

-- ---- sending ---------------------------------------------------------------------------------

--- Sends the rest of the messages that have begun.
local function send_rest(s)
    while s.rest do
        if not s.fd then return nil, "closed" end
        local last, why = core.fd_write(s.fd, s.rest, s.from)
        if last == #s.rest then
            s.rest = nil
        elseif last then
            s.from = last + 1
        elseif why == "again" then
            core.wait_fd(s.fd, "w", nil, true)
        else
            return nil, "closed"
        end
    end
    return true
end

local function send_message(s, bytes)
    local sent, why = send_rest(s)
    if not sent then return nil, why end
    s.rest, s.from = bytes, 1
    return send_rest(s)
end

local function send(self, call, value)
    local s = check_open(self, call)
    local bytes = core.encode_outside(call, "value", value)
    if #bytes > MAX then error(("%s: a message of %d bytes; at most %d can be sent"):format(call, #bytes, MAX)) end
    s.writing:enter()
    local sent, why = s.writing:run(send_message, s, string.pack(">s4", bytes))
    core.did(true)
    return sent, why
end

--- Sends a value; raises for one that has functions or shared objects.
---@param value any
---@return true? sent
---@return "closed"? reason
function methods:send(value) return send(self, "Connection:send", value) end

--- Sends a string.
---@param bytes string
---@return true? sent
---@return "closed"? reason
function methods:send_bytes(bytes)
    check_open(self, "Connection:send_bytes")
    check.type("Connection:send_bytes", 1, bytes, "string")
    return send(self, "Connection:send_bytes", bytes)
end

-- ---- the rest --------------------------------------------------------------------------------

local function release(s)
    local fd = s.fd
    s.fd = nil
    if fd then core.fd_close(fd) end
end

-- The state is collected with the connection, and no script can finalize it before.
local State = { __gc = release }

--- Closes it. Tasks that wait for it get nil, "closed". Harmless when it is closed.
function methods:close() release(state[self] or check.bad_self("Connection:close", "mp.Connection", self)) end

Connection.__close = methods.close

function Connection:__tostring()
    local s = state[self] or check.bad_self("tostring", "mp.Connection", self)
    return ("mp.Connection: %s"):format(s.fd and s.peer or "closed")
end

--- Waiting for it (waitable.lua): ready when there is a message, or the end.
function Connection:__ready()
    local s = check_open(self, "wait")
    while not has_message(s) and not s.ended do
        if not fill(s) then return false end
    end
    return true
end

function Connection:__wait_source()
    local s = state[self] or check.bad_self("wait", "mp.Connection", self)
    return s.fd, "the connection is closed"
end

--- The end of an authenticated socket, which it owns.
---@param fd integer
---@param peer string the address
---@return mpengine.Connection
function connection.new(fd, peer)
    local self = setmetatable({}, Connection)
    state[self] = setmetatable({
        fd = fd, peer = peer, data = "", at = 1, pieces = {}, have = 0, reading = order.new(), writing = order.new(),
    }, State)
    return self
end

return connection
