--- Files, sockets and pipes between processes: what belongs to one beside its descriptor, as a note, and
--- the value that the receiver makes of both. One that was closed on its way arrives closed.
local core = require "mpengine.core"
local hooks = require "mpengine.hooks"

local passing = {}

local io, debug = io, debug

--- Kinds of values, by the first letter of a note.
---@class mpengine.passing.kind
---@field pass fun(value): integer|false, string the descriptor and the rest of the note | false, why not
---@field receive fun(fd: integer?, note: string, at: integer): any

local kinds = {} ---@type table<string, mpengine.passing.kind>

local UNREAD = "cannot send a %s: bytes that were received are not read yet"

-- ---- files -----------------------------------------------------------------------------------

--- Files of a patched popen do not block, and are read here; without a patch they have to block.
local function adopt(file, fd, mode)
    if not core.passing_is_nonblocking(fd) then return end
    local files = core.modules["mpengine.monkey.files"]
    if not files or not files.adopt(file, fd, mode) then core.passing_block(fd) end
end

kinds.f = {
    pass = function(file)
        if io.type(file) ~= "file" then return false, "cannot send a closed file" end
        local files = core.modules["mpengine.monkey.files"]
        if files and files.has_unread(file) then return false, UNREAD:format "file" end
        local fd, mode = core.passing_file(file)
        if not fd then return false, "cannot send a file: " .. mode end
        return fd, mode
    end,
    receive = function(fd, note, at)
        local mode = note:sub(at)
        local file = core.passed_file(fd, mode)
        if fd then adopt(file, fd, mode) end
        return file
    end,
}

-- ---- the sockets of this library -------------------------------------------------------------

kinds.s = {
    pass = function(socket)
        local fd = socket:getfd()
        if fd < 0 then return false, "cannot send a closed socket" end
        if socket:dirty() then return false, UNREAD:format "socket" end
        return fd, string.pack("nn", socket:gettimeout())
    end,
    receive = function(fd, note, at)
        local socket = core.passed_socket(fd)
        local block, total = string.unpack("nn", note, at)
        socket:settimeout(block, "b")
        socket:settimeout(total, "t")
        return socket
    end,
}

-- ---- LuaSocket's -----------------------------------------------------------------------------

local registry = debug.getregistry()

--- The name of a class of LuaSocket's sockets, "tcp{client}" for example.
local function socket_class(meta)
    local name = meta.__name
    if type(name) ~= "string" or registry[name] ~= meta or not name:find "^[a-z]+{[a-z]+}$" then return nil end
    return (name:find "^tcp" or name:find "^udp" or name:find "^unix") and name or nil
end

local function is_v6(socket, fd)
    local family = socket.getfamily and socket:getfamily()
    return family == "inet6" or not family and core.passing_is_v6(fd)
end

--- An object of a class without a descriptor. LuaSocket makes one for each family; the state of a connection
--- is in its metatable.
local function closed_socket(class, v6)
    local socket
    if class:find "^unix" then
        local unix = require "socket.unix"
        local maker = type(unix) == "table" and unix[class:match "^unix(%a*)"] or unix
        socket = maker()
    else
        socket = require("socket")[class:match "^%a+" .. (v6 and "6" or "4")]()
    end
    if not socket then return nil end
    socket:close()
    return debug.setmetatable(socket, registry[class])
end

kinds.l = {
    pass = function(socket, class)
        local fd = math.tointeger(socket:getfd())
        if fd < 0 then return false, "cannot send a closed socket" end
        if socket.dirty and socket:dirty() then return false, UNREAD:format "socket" end
        local block, total
        if socket.gettimeout then block, total = socket:gettimeout() end
        return fd, string.pack("zBnn", class, is_v6(socket, fd) and 1 or 0, block or -1, total or -1)
    end,
    receive = function(fd, note, at)
        local class, v6, block, total = string.unpack("zBnn", note, at)
        local socket = closed_socket(class, v6 == 1)
        if not socket then error("cannot receive a socket: there is no descriptor left", 0) end
        if socket.settimeout then
            socket:settimeout(block, "b")
            if socket.gettimeout then socket:settimeout(total, "t") end
        end
        if fd then socket:setfd(fd) end
        return socket
    end,
}

-- ---- pipes to programs -----------------------------------------------------------------------

local function pipes() return require "mpengine.subprocess.pipe" end

kinds.p = {
    pass = function(pipe)
        local fd, name, lent, unread = pipes().pass(pipe)
        if unread then return false, UNREAD:format "pipe" end
        return fd or -1, (lent and "l" or "-") .. name
    end,
    receive = function(fd, note, at)
        return pipes().new(fd, note:sub(at + 1), note:sub(at, at) == "l")
    end,
}

-- ---- the hooks -------------------------------------------------------------------------------

local SOCKET = core.Socket

local function kind_of(value, meta)
    if type(value) == "table" then
        return core.modules["mpengine.subprocess.pipe"] and pipes().is(value) and "p" or nil
    end
    if io.type(value) then return "f" end
    if meta == SOCKET then return "s" end
    local class = socket_class(meta)
    if class then return "l", class end
end

--- The descriptor of a value, and its note | false, why it cannot be sent | nil, when it has none. Called by
--- ldescriptor.c.
function passing.pass(value)
    local meta = debug.getmetatable(value)
    if not meta then return nil end
    local letter, class = kind_of(value, meta)
    if not letter then return nil end
    local fd, note = kinds[letter].pass(value, class)
    return fd, fd and letter .. note or note
end

--- The value of a note, which owns the descriptor; nil: it was closed on its way. When this fails, the
--- descriptor is still the caller's.
function passing.receive(fd, note) return kinds[note:sub(1, 1)].receive(fd, note, 2) end

hooks.pass, hooks.receive = passing.pass, passing.receive

return passing
