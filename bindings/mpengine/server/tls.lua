--- TLS for the connections of a StreamServer, by LuaSec, which is loaded when a server asks for it. A
--- connection is two objects over one descriptor: LuaSec's, which reads and writes, and a socket of this
--- library, which owns no descriptor any more and knows its addresses and options.
local core = require "mpengine.core"
local check = require "mpengine.check"
local limits = require "mpengine.monkey.limits"
local originals = require "mpengine.monkey.originals"
local relay = require "mpengine.monkey.relay"
local streams = require "mpengine.monkey.streams"

local tls = {}

local HANDSHAKE_SECONDS <const> = 10

local function load_ssl(call)
    local loaded, ssl = pcall(require, "ssl")
    if loaded then return ssl end
    error(("%s: field 'tls' needs LuaSec (Debian: lua-sec), which cannot be loaded: %s"):format(call, ssl))
end

-- ---- the socket ------------------------------------------------------------------------------

---@class mpengine.server.TLSSocket
local Socket = { __name = "mp.TLSSocket" }
local state = setmetatable({}, { __mode = "k" }) -- TLSSocket -> { ssl =, plain = }
local methods = {}
Socket.__index = methods

local function state_of(self, call)
    return state[self] or check.bad_self("TLSSocket:" .. call, "mp.TLSSocket", self)
end

--- The calls that the plain socket answers.
for _, name in ipairs { "getpeername", "getsockname", "setoption", "getoption", "getfd", "shutdown" } do
    methods[name] = function(self, ...)
        local plain = state_of(self, name).plain
        return plain[name](plain, ...)
    end
end

-- Those of LuaSec alone, which never wait.
local ABOUT = { "getpeercertificate", "getpeerchain", "getpeerverification", "getpeerfinished", "getfinished",
    "getalpn", "getsniname", "getstats", "setstats", "info" }

--- LuaSec names what it waits for where a plain socket times out.
local function as_plain(value, why, ...)
    if why == "wantread" or why == "wantwrite" then why = "timeout" end
    return value, why, ...
end

local raw -- LuaSec's own methods, whether or not they are patched

--- Gives the socket its methods, once LuaSec is there.
local function make_methods()
    if raw then return end
    raw = {}
    for _, meta in ipairs(originals.metatables "ssl") do
        for name in pairs(meta.__index) do raw[name] = originals.get("ssl:" .. name) end
    end
    local waiting = {
        receive = streams.receive(raw), send = streams.send(raw), dirty = streams.dirty(raw),
        settimeout = limits.settimeout(raw), gettimeout = limits.gettimeout(raw),
    }
    for name, f in pairs(waiting) do
        methods[name] = relay.method(name, function(self, ...)
            return as_plain(f(state_of(self, name).ssl, ...))
        end)
    end
    for _, name in ipairs(ABOUT) do
        local f = raw[name]
        methods[name] = f and relay.method(name, function(self, ...) return f(state_of(self, name).ssl, ...) end)
    end
end

--- Says the end to the other side, and closes. Wakes the tasks that read or write it.
function methods:close()
    local s = state_of(self, "close")
    if s.plain:getfd() < 0 then return 1 end
    limits.closing(s.ssl, raw)
    limits.forget(s.ssl)
    s.plain:setfd(-1)
    raw.close(s.ssl)
    return 1
end

Socket.__close = methods.close

function Socket:__tostring()
    local fd = state_of(self, "tostring").plain:getfd()
    return fd < 0 and "mp.TLSSocket: closed" or ("mp.TLSSocket: descriptor %d"):format(fd)
end

-- ---- the context -----------------------------------------------------------------------------

local function is_pem(value) return value:find("-----BEGIN", 1, true) ~= nil end

local function check_file(call, name, value)
    if type(value) ~= "string" then
        error(("%s: field 'tls.%s' must be the name of a file in PEM form, or its text, got %s"):format(call, name,
            check.kind(value)))
    end
    if is_pem(value) then return end
    local file, why = io.open(value, "rb")
    if file then
        why = select(2, file:read(0)) -- a directory can be opened
        file:close()
    end
    if why then error(("%s: field 'tls.%s': %s"):format(call, name, why)) end
end

local FIELDS = { cert = true, key = true, password = true, timeout = true }

local function check_fields(call, settings)
    for name in pairs(settings) do
        if not FIELDS[name] then
            error(("%s: unknown field 'tls.%s' (cert, key, password, timeout expected)"):format(call, tostring(name)))
        end
    end
    check_file(call, "cert", settings.cert)
    check_file(call, "key", settings.key)
    local timeout = settings.timeout
    if timeout ~= nil and not (type(timeout) == "number" and timeout >= 0) then
        error(call .. ": field 'tls.timeout' must be a number of seconds, 0 or more")
    end
end

local function is_context(value)
    return type(value) == "userdata" and getmetatable(value) == debug.getregistry()["SSL:Context"]
end

--- What a worker can be sent of a server's setting. Raises when it is wrong.
---@param call string
---@param setting table|userdata { cert =, key = }, or a context of LuaSec
---@param is_shared boolean it goes to workers
---@return table
function tls.prepare(call, setting, is_shared)
    load_ssl(call)
    if type(setting) == "table" then
        check_fields(call, setting)
        tls.context(call, setting)
        return setting
    end
    if not is_context(setting) then
        error(("%s: field 'tls' must be a table with the fields cert and key, or a context of LuaSec, got %s"):format(
            call, check.kind(setting)))
    end
    if is_shared then
        error(call .. ": a context of LuaSec cannot be sent to workers; give field 'tls' cert and key")
    end
    return { context = setting }
end

-- A file that only this user can read, for a text: LuaSec takes names. It is gone with its scope.
local File = { __close = function(self) if self.is_temporary then os.remove(self.name) end end }

local function file_of(call, value)
    if not is_pem(value) then return setmetatable({ name = value }, File) end
    local self = setmetatable({ name = os.tmpname(), is_temporary = true }, File)
    local file <close>, why = io.open(self.name, "wb")
    if not file or not file:write(value) then error(("%s: field 'tls': %s"):format(call, why or "cannot write")) end
    return self
end

local function told(value) return is_pem(value) and "as text" or value end

--- The context of this process.
function tls.context(call, prepared)
    if prepared.context then return prepared.context end
    local cert <close> = file_of(call, prepared.cert)
    local key <close> = file_of(call, prepared.key)
    local context, why = load_ssl(call).newcontext {
        mode = "server", protocol = "any", options = { "all", "no_sslv2", "no_sslv3", "no_tlsv1", "no_tlsv1_1" },
        certificate = cert.name, key = key.name, password = prepared.password,
    }
    if context then return context end
    error(("%s: field 'tls': %s (certificate %s, key %s)"):format(call, why, told(prepared.cert), told(prepared.key)))
end

-- ---- a connection ----------------------------------------------------------------------------

--- Makes a socket over a plain one, whose descriptor it takes.
---@return mpengine.server.TLSSocket? socket
---@return string? why
function tls.wrap(plain, context)
    make_methods()
    local fd = plain:getfd()
    local ssl, why = require "ssl".wrap({ getfd = function() return fd end, setfd = function() end }, context)
    if not ssl then return nil, why end
    core.socket_lend(plain)
    limits.of(ssl, raw) -- it does not block from here on
    local self = setmetatable({}, Socket)
    state[self] = { ssl = ssl, plain = plain }
    return self
end

--- Waits until both sides have shaken hands.
---@param self mpengine.server.TLSSocket
---@param seconds? number 10 when absent
---@return true? done
---@return string? why "timeout", or what LuaSec says
function tls.shake_hands(self, seconds)
    local s = state[self]
    local deadline = core.now() + (seconds or HANDSHAKE_SECONDS)
    while true do
        local done, why = raw.dohandshake(s.ssl)
        if done then return true end
        local way, left = limits.direction(why, "r"), deadline - core.now()
        if not way then return nil, why end
        if left <= 0 or not core.wait_fd(s.plain:getfd(), way, left, true) then return nil, "timeout" end
    end
end

return tls
