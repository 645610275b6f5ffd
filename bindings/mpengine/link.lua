--- mp.Listener and mp.Client: pipe ends between programs that know nothing of each other but an address and
--- a key. Both prove that they have the key before anything is decoded (link/handshake.lua).
---
--- The task in accept serves the listener and all clients that are not authenticated yet; it only ever
--- waits for any of them, so none that is silent keeps another from its turn.
local core = require "mpengine.core"
local check = require "mpengine.check"
local connection = require "mpengine.link.connection"
local handshake = require "mpengine.link.handshake"
local names = require "mpengine.names"
local order = require "mpengine.monkey.order"

local link = {}

local ANSWER_SECONDS <const> = 10 -- for a client to answer the challenge
local PENDING_MAX <const> = 256   -- clients that have not answered
local FAIR_SECONDS <const> = 1    -- after that a further client displaces the oldest of so many

-- ---- arguments -------------------------------------------------------------------------------

--- The host and the port of an address; a path has none.
local function parse(call, address)
    if type(address) ~= "string" then check.fail(call, 1, "address", address) end
    if address == "" or address:find("\0", 1, true) then
        check.wrong(call, 1, "an address must be \"host:port\" or a path")
    end
    local host, port = address:match "^([^/]*):(%d+)$"
    if not host then return address end
    port = math.tointeger(tonumber(port))
    if not port or port > 65535 then check.wrong(call, 1, "a port must be from 0 to 65535") end
    host = host:match "^%[(.*)%]$" or host
    return host, port
end

local function check_opts(call, opts, known)
    if type(opts) ~= "table" then check.fail(call, 2, "table with an authkey", opts) end
    for name in pairs(opts) do
        if not known[name] then error(("%s: unknown field '%s'"):format(call, tostring(name))) end
    end
    local key = opts.authkey
    if type(key) ~= "string" or key == "" then
        local got = key == "" and "an empty one" or type(key)
        error(("%s: field 'authkey' must be a string, got %s"):format(call, got))
    end
    return key
end

local function left(deadline) return deadline and math.max(0, deadline - core.now()) end

-- ---- Listener --------------------------------------------------------------------------------

---@class mpengine.link.pending a client that has not answered yet
---@field fd integer
---@field challenge string
---@field answer string what has come of it
---@field deadline number

---@class mpengine.link.listener
---@field fd integer? nil: closed
---@field key string
---@field path string? of the socket file
---@field owner integer the pid of the process that made it
---@field pending mpengine.link.pending[] the oldest first
---@field ready integer[] descriptors of authenticated clients
---@field accepting mpengine.order
local state = setmetatable({}, { __mode = "k" }) -- Listener -> its state

---@class mpengine.Listener
---@field address string with the port that was chosen for port 0
local Listener = { __name = "mp.Listener" }

local methods = {}
Listener.__index, Listener.methods = methods, methods

local function drop(p) core.fd_close(p.fd) end

local function greet(s, fd)
    local challenge = handshake.challenge()
    local last = core.fd_write(fd, challenge)
    if last ~= #challenge then return core.fd_close(fd) end -- its empty buffer takes it whole
    s.pending[#s.pending + 1] = { fd = fd, challenge = challenge, answer = "", deadline = core.now() + ANSWER_SECONDS }
end

--- When a further client may displace the oldest one, if there are so many.
local function displaces_at(s)
    return #s.pending >= PENDING_MAX and s.pending[1].deadline - ANSWER_SECONDS + FAIR_SECONDS or nil
end

--- Makes room for a client.
local function make_room(s)
    local at = displaces_at(s)
    if not at then return true end
    if at > core.now() then return false end
    drop(table.remove(s.pending, 1))
    return true
end

--- Accepts those that have connected; the reason when that fails.
local function accept_all(s)
    for _ = 1, PENDING_MAX do
        if not make_room(s) then return "too many clients have not answered yet" end
        local fd, why = core.link_accept(s.fd)
        if not fd then return why ~= "again" and why or nil end
        greet(s, fd)
    end
end

--- Reads of an answer: true when the client is no longer pending.
local function hear(s, p)
    local bytes, why = core.fd_read(p.fd, handshake.ANSWER - #p.answer)
    if why == "again" then return false end
    if not bytes or bytes == "" then
        drop(p)
        return true
    end
    p.answer = p.answer .. bytes
    if #p.answer < handshake.ANSWER then return false end
    local verdict, accepted = handshake.verdict(s.key, p.challenge, p.answer)
    local sent = core.fd_write(p.fd, verdict) == #verdict
    if accepted and sent then s.ready[#s.ready + 1] = p.fd else drop(p) end
    return true
end

--- Hears all clients; those that have not answered in time are dropped.
local function hear_all(s)
    local now, kept = core.now(), {}
    for _, p in ipairs(s.pending) do
        if not hear(s, p) then
            if p.deadline <= now then drop(p) else kept[#kept + 1] = p end
        end
    end
    s.pending = kept
end

--- Waits until there is something to do, until the deadline or the end of the oldest client's time. When
--- no more can be accepted, the listener is left alone until a client has gone.
local function wait_any(s, deadline, is_full)
    local readers = { not is_full and s.fd or nil }
    for _, p in ipairs(s.pending) do readers[#readers + 1] = p.fd end
    local oldest = displaces_at(s) or s.pending[1] and s.pending[1].deadline
    local limit = math.min(deadline or math.huge, oldest or math.huge)
    core.poll(readers, {}, limit < math.huge and left(limit) or nil)
end

local function accept(s, deadline)
    while s.fd do
        local why = accept_all(s)
        hear_all(s)
        if s.ready[1] then return table.remove(s.ready, 1) end
        if why and #s.pending == 0 then return nil, why end
        if deadline and core.now() >= deadline then return nil, "timeout" end
        wait_any(s, deadline, why)
    end
    return nil, "closed"
end

--- Waits for a client that has the key. Those that have another, or say nothing in time, are dropped.
---@param timeout? number seconds
---@return mpengine.Connection? connection
---@return string? reason "timeout", "closed" by another task, or what the system says
function methods:accept(timeout)
    local s = state[self] or check.bad_self("Listener:accept", "mp.Listener", self)
    if not s.fd then error "Listener:accept: the listener is closed" end
    check.timeout("Listener:accept", 1, timeout)
    local deadline = timeout and core.now() + timeout
    if not s.accepting:enter(timeout) then return nil, "timeout" end
    local fd, why = s.accepting:run(accept, s, deadline)
    core.did(fd)
    if not fd then return nil, why end
    return connection.new(fd, "client of " .. self.address)
end

local function release(s)
    if not s.fd then return end
    local fd = s.fd
    s.fd = nil
    if s.path and s.owner == core.pid() then os.remove(s.path) end
    core.fd_close(fd)
    for _, p in ipairs(s.pending) do drop(p) end
    for _, ready in ipairs(s.ready) do core.fd_close(ready) end
    s.pending, s.ready = {}, {}
end

-- The state is collected with the listener, and no script can finalize it before.
local State = { __gc = release }

--- Stops to listen, and drops the clients that were not accepted. A task in accept gets nil, "closed".
--- Harmless when it is closed.
function methods:close() release(state[self] or check.bad_self("Listener:close", "mp.Listener", self)) end

Listener.__close = methods.close

function Listener:__tostring()
    local s = state[self] or check.bad_self("tostring", "mp.Listener", self)
    return ("mp.Listener: %s%s"):format(self.address, s.fd and "" or " (closed)")
end

--- Listens at "host:port" or a path. Raises when that is not possible.
---@param address string port 0: one that is free, as the field address says
---@param opts { authkey: string }
---@return mpengine.Listener
function link.Listener(address, opts)
    local host, port = parse("Listener", address)
    local key = check_opts("Listener", opts, { authkey = true })
    core.hmac_sha256(key, "") -- says now if there is no libcrypto
    local place, why = host, nil
    if port then
        local list
        list, why = names.addresses(host == "" and "0.0.0.0" or host)
        place = list and list[1].addr
    end
    local fd, chosen
    if place then fd, chosen = core.link_listen(place, port) why = chosen end
    if not fd then error(("Listener: cannot listen on %s: %s"):format(address, why)) end
    local self = { address = port and address:gsub("%d+$", tostring(chosen)) or address }
    state[self] = setmetatable({
        fd = fd, key = key, path = not port and host or nil, owner = core.pid(), pending = {}, ready = {},
        accepting = order.new(),
    }, State)
    return setmetatable(self, Listener)
end

-- ---- Client ----------------------------------------------------------------------------------

-- A descriptor that is closed unless the connection takes it.
local Attempt = { __close = function(self) if self.fd then core.fd_close(self.fd) end end }

--- Reads exactly n bytes, or fewer when the other side closes.
local function read_part(fd, n, deadline)
    local part = ""
    while #part < n do
        local bytes, why = core.fd_read(fd, n - #part)
        if bytes == "" then return part end
        if bytes then
            part = part .. bytes
        elseif why ~= "again" then
            return part
        elseif not core.wait_fd(fd, "r", left(deadline), true) then
            return nil, "timeout"
        end
    end
    return part
end

local function authenticate(fd, key, deadline)
    local challenge, why = read_part(fd, handshake.CHALLENGE, deadline)
    if not challenge then return nil, why end
    if #challenge < handshake.CHALLENGE then return nil, "closed" end
    local answer = handshake.answer(key, challenge)
    if not answer then return nil, "authentication failed" end
    if core.fd_write(fd, answer) ~= #answer then return nil, "closed" end
    local verdict
    verdict, why = read_part(fd, handshake.VERDICT, deadline)
    if not verdict then return nil, why end
    if verdict == "" then return nil, "closed" end
    if not handshake.check(key, challenge, answer, verdict) then return nil, "authentication failed" end
    return true
end

local function connect(place, port, key, deadline, address)
    local fd, why = core.link_connect(place, port)
    if not fd then return nil, why == "again" and "the listener has no room" or why end
    local attempt <close> = setmetatable({ fd = fd }, Attempt)
    if not core.wait_fd(fd, "w", left(deadline)) then return nil, "timeout" end
    local connected
    connected, why = core.link_error(fd)
    if not connected then return nil, why end
    connected, why = authenticate(fd, key, deadline)
    if not connected then return nil, why, true end
    attempt.fd = nil
    return connection.new(fd, address)
end

--- Connects to a listener of another program, and makes sure that both have the key.
---@param address string "host:port" or a path
---@param opts { authkey: string, timeout: number? } the timeout is for all of it
---@return mpengine.Connection? connection
---@return string? reason "authentication failed", "timeout", "closed", or what the system says
function link.Client(address, opts)
    local host, port = parse("Client", address)
    local key = check_opts("Client", opts, { authkey = true, timeout = true })
    local timeout = opts.timeout
    local is_time = timeout == nil or type(timeout) == "number" and timeout >= 0
    if not is_time then
        error "Client: field 'timeout' must be a number of seconds, 0 or more"
    end
    core.hmac_sha256(key, "") -- says now if there is no libcrypto
    local deadline = timeout and core.now() + timeout
    local places, why = { { addr = host } }, nil
    if port then places, why = names.addresses(host == "" and "localhost" or host, left(deadline)) end
    for _, place in ipairs(places or {}) do
        local found, reason, is_final = connect(place.addr, port, key, deadline, address)
        if found then return found end
        if is_final or reason == "timeout" then return nil, reason end
        why = reason
    end
    return nil, why
end

return link
