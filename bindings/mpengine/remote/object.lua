--- The objects of remote managers: a handle is a name and the manager, so it can be sent to any process and stored in
--- any remote object. What the process has to do with the server is its client's.
local core = require "mpengine.core"
local check = require "mpengine.check"
local client = require "mpengine.remote.client"

local object = {}

-- Fields of a handle. No key of a dict is so named by chance.
local NAME <const>, MANAGER <const> = "\0name", "\0manager"

local rawget, rawset, getmetatable = rawget, rawset, getmetatable
local of = client.of

---@class mpengine.remote.Manager
---@field url string? hidden while a value is encoded for the server
---@field namespace string
---@field key_file string?
---@field ca string?
---@field timeout number
---@field lease number
local Manager = { __name = "mp.Manager" }
object.Manager = Manager
core.register("mpengine.remote.manager:Manager", Manager)

local managers = setmetatable({}, { __mode = "k" }) -- those of this process

function object.manager(fields)
    local manager = setmetatable(fields, Manager)
    managers[manager] = true
    return manager
end

--- A class of handles: its metatable, with methods, and fields that are computed.
---@param kind string as of mp: "Lock"
---@param module string that makes it, and that a process loads which gets a handle: "lock"
function object.class(kind, module)
    local methods, fields = {}, {}
    local meta = { __name = "mp.remote." .. kind, methods = methods, fields = fields, kind = kind }

    function meta.__index(self, key)
        local method = methods[key]
        if method then return method end
        local field = fields[key]
        if field then return field(self) end
    end

    function meta.__eq(a, b)
        local m, n = rawget(a, MANAGER), rawget(b, MANAGER)
        return getmetatable(a) == getmetatable(b) and rawget(a, NAME) == rawget(b, NAME) and m.url == n.url
            and m.namespace == n.namespace
    end

    function meta.__tostring(self)
        return ("mp.remote.%s: %s (%s)"):format(kind, rawget(self, NAME), of(rawget(self, MANAGER)).address.shown)
    end

    core.register(("mpengine.remote.%s:%s"):format(module, kind), meta)
    return meta
end

--- A handle.
function object.new(class, manager, name)
    return setmetatable({ [NAME] = name, [MANAGER] = manager }, class)
end

function object.name(self) return rawget(self, NAME) end

function object.manager_of(self) return rawget(self, MANAGER) end

--- The client for a handle; raises when it is none of that class.
---@return mpengine.remote.Client
function object.check(self, class, call)
    if getmetatable(self) ~= class then check.bad_self(class.kind .. ":" .. call, class.__name, self) end
    return of(rawget(self, MANAGER))
end

-- ---- parameters ------------------------------------------------------------------------------

-- A name has the parameters that it was first used with.
local AGREE = client.script [[
local field, given = ARGV[1], ARGV[2]
local known = call('HGET', P .. 'parameters', field)
if known then return known end
if given ~= '' then call('HSET', P .. 'parameters', field, given) end
return given
]]

--- The parameters of an object, as text. Without any it is what the object has, or else `default`; others than it has
--- are an error.
---@param manager mpengine.remote.Manager
---@param kind string
---@param name string
---@param given string?
---@param default string
---@return string
function object.agree(manager, kind, name, given, default)
    local known = of(manager):run(true, AGREE, kind .. ":" .. name, given or default)
    if given and known ~= given then
        error(("%s: '%s' exists with other parameters: %s, not %s"):format(kind, name, known, given))
    end
    return known
end

-- ---- values ----------------------------------------------------------------------------------
--
-- An integer is stored as decimals, so that the server can add to it; any other value as a zero byte and a message of
-- the codec. The URL of the manager stays out of it: a reader of the value has a URL of its own.

local function hide(manager)
    local hidden = {}
    for other in pairs(managers) do
        if other.url == manager.url and other.namespace == manager.namespace then hidden[other] = other.url end
    end
    for other in pairs(hidden) do other.url = nil end
    return hidden
end

--- No part of it can be a handle: a list of plain values is the usual case.
local function is_plain(value)
    if getmetatable(value) then return false end
    for _, v in next, value do
        if type(v) == "table" then return false end
    end
    return true
end

--- The message of a value that core's function makes of it, which is its last argument.
local function without_urls(manager, value, f, ...)
    if type(value) ~= "table" or is_plain(value) then return f(...) end
    local hidden = hide(manager)
    local ok, bytes = pcall(f, ...)
    for other, url in pairs(hidden) do other.url = url end
    if not ok then error(bytes, 0) end
    return bytes
end

--- The bytes of a value after those of `before`; raises with the path to what cannot be stored.
---@param before string
---@param manager mpengine.remote.Manager
---@param call string for messages
---@param value any
---@param what string? "value"
---@return string
function object.encode_after(before, manager, call, value, what)
    return without_urls(manager, value, core.encode_outside, call, what or "value", value, before)
end

--- The same as a message between submitter and worker (lenvelope.c).
function object.seal(key, place, name, head, manager, call, value, what)
    return without_urls(manager, value, core.envelope_seal, key, place, name, head, call, what, value)
end

--- The bytes of a value as it is stored.
---@param manager mpengine.remote.Manager
---@param call string for messages
---@param value any
---@param what string? "value"
---@return string
function object.encode(manager, call, value, what)
    if math.type(value) == "integer" then return tostring(value) end
    return object.encode_after("\0", manager, call, value, what)
end

--- Gives the managers in a value that have no URL that of the reader.
local function adopt(manager, value, seen)
    if type(value) ~= "table" or seen[value] then return end
    seen[value] = true
    if getmetatable(value) == Manager then
        if value.url then return end
        for k, v in pairs(manager) do rawset(value, k, v) end
        managers[value] = true
        return
    end
    for k, v in next, value do
        adopt(manager, k, seen)
        adopt(manager, v, seen)
    end
end

local CLASSES <const> = { manager = true, dict = true, list = true, array = true, lock = true, semaphore = true,
    event = true, condition = true, barrier = true, queue = true, cache = true, limiter = true }

--- Loads the modules of the classes that are named in a message.
local function load_classes(bytes)
    for module in bytes:gmatch "mpengine%.remote%.(%l+):" do
        if CLASSES[module] then require("mpengine.remote." .. module) end
    end
end

--- The value of a message in bytes, from a place to another one; raises for a damaged one.
---@param manager mpengine.remote.Manager
---@param call string for messages
---@param bytes string
---@param from integer
---@param to integer?
function object.decode_part(manager, call, bytes, from, to)
    local has_handles = bytes:find("mpengine.remote.", from, true)
    if has_handles then load_classes(bytes) end
    local ok, value = core.decode_outside(bytes, from, to)
    if not ok then error(("%s: cannot decode: %s"):format(call, value), 0) end
    if has_handles then adopt(manager, value, {}) end
    return value
end

--- The value of bytes as it is stored; raises for damaged ones.
function object.decode(manager, call, bytes)
    if not bytes then return nil end
    if bytes:byte(1) == 0 then return object.decode_part(manager, call, bytes, 2) end
    local n = math.tointeger(tonumber(bytes))
    if not n then error(("%s: damaged data"):format(call), 0) end
    return n
end

--- The bytes of a key: a letter for its type, and its text. Raises for what is no key.
function object.encode_key(call, key)
    local kind = type(key)
    if kind == "string" then return "s" .. key end
    if kind == "boolean" then return key and "b1" or "b0" end
    local integer = kind == "number" and math.tointeger(key)
    if integer then return "i" .. integer end
    if kind == "number" and key == key then return ("f%.17g"):format(key) end
    error(("bad argument #1 to '%s' (a key must be a string, number or boolean, got %s)"):format(call,
        kind == "number" and "NaN" or check.kind(key)))
end

function object.decode_key(bytes)
    local kind, text = bytes:sub(1, 1), bytes:sub(2)
    if kind == "s" then return text end
    if kind == "b" then return text == "1" end
    return kind == "i" and math.tointeger(tonumber(text)) or tonumber(text)
end

return object
