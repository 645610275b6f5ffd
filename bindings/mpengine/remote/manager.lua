--- mp.Manager(url): the objects of mp by names, in Redis, for programs on any machine.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local object = require "mpengine.remote.object"
local url = require "mpengine.remote.url"
require "mpengine.remote.mail"

local Manager = object.Manager

---@class mpengine.remote.Options
---@field namespace? string "default"
---@field key_file? string a file that only its owner can read: the key that signs tasks
---@field ca? string a file of certificates, for rediss://
---@field timeout? number seconds that a call outlasts an outage of the server, 30
---@field lease? number seconds after which a process that is not heard of is dead, 15; 2 to 600

local function is_number(least, most)
    return function(v) return type(v) == "number" and v >= least and v <= most end
end

local function is_file(v)
    if type(v) ~= "string" then return false end
    local f = io.open(v, "rb")
    if f then f:close() end
    return f ~= nil
end

local OPTIONS = {
    namespace = { function(v) return type(v) == "string" and v:find("^[%w_.-]+$") ~= nil end,
        "letters, digits, '_', '.' and '-'" },
    ca = { is_file, "a file of certificates that can be read" },
    key_file = { function(v) return type(v) == "string" end, "the name of a file" },
    timeout = { is_number(0, 1e9), "a number of seconds, 0 or more" },
    lease = { is_number(2, 600), "a number of seconds from 2 to 600" },
}

local function check_options(options)
    for name, value in pairs(options) do
        local option = OPTIONS[name]
        if not option then error(("Manager: unknown option '%s'"):format(tostring(name))) end
        if not option[1](value) then
            error(("Manager: option '%s' must be %s, got %s"):format(name, option[2],
                type(value) == "table" and "a table" or tostring(value)))
        end
    end
end

-- ---- makers ----------------------------------------------------------------------------------

local classes = { -- by the name of the maker: the module that has it
    dict = "dict", Namespace = "dict", Lock = "lock", RLock = "lock", Semaphore = "semaphore",
    BoundedSemaphore = "semaphore", Event = "event", Condition = "condition", Barrier = "barrier", Queue = "queue",
    JoinableQueue = "queue", SimpleQueue = "queue", list = "list", Array = "array", Value = "array",
    Cache = "cache", RateLimiter = "limiter",
}

-- The fields of the table that a local constructor takes in place of its arguments, in their order.
local FIELDS = {
    Queue = { "maxsize" }, JoinableQueue = { "maxsize" }, Semaphore = { "value" }, BoundedSemaphore = { "value" },
    Condition = { "lock" }, Barrier = { "parties", "action", "timeout" }, Array = { "type", "size" },
    Value = { "type", "value" },
}

--- The arguments of a constructor, when a plain table has them.
local function spread(kind, first, ...)
    local names = FIELDS[kind]
    local is_fields = type(first) == "table" and not getmetatable(first) and #first == 0 -- no type of structs
    if not names or not is_fields or select("#", ...) > 0 then return first, ... end
    local args = {}
    for i, name in ipairs(names) do args[i] = first[name] end
    for name in pairs(first) do
        local known = false
        for _, field in ipairs(names) do known = known or field == name end
        if not known then error(("Manager:%s: unknown field '%s'"):format(kind, tostring(name))) end
    end
    return table.unpack(args, 1, #names)
end

local makers = {}

local function check_name(call, name)
    if type(name) ~= "string" or name == "" or #name > 255 then
        check.wrong(call, 1, "the name of an object must be a string of 1 to 255 bytes, got "
            .. (type(name) == "string" and #name .. " bytes" or check.kind(name)))
    end
end

for name, module in pairs(classes) do
    makers[name] = function(self, object_name, ...)
        if getmetatable(self) ~= Manager then check.bad_self("Manager:" .. name, "mp.Manager", self) end
        if self.is_shut_down then error("Manager:" .. name .. ": the manager is shut down") end
        check_name("Manager:" .. name, object_name)
        local made = require("mpengine.remote." .. module)
        local class = made[name] or made.class
        if class.open then return class.open(self, object_name, spread(name, ...)) end
        return object.new(class, self, object_name)
    end
end

--- m:Pool{ queue = "default", … }: tasks for the workers of that queue.
---@param options table?
function makers:Pool(options)
    if getmetatable(self) ~= Manager then check.bad_self("Manager:Pool", "mp.Manager", self) end
    if self.is_shut_down then error("Manager:Pool: the manager is shut down") end
    return require("mpengine.remote.pool").Pool.open(self, options)
end

--- The manager makes no more handles; those it has made stay usable.
function makers:shutdown()
    if getmetatable(self) ~= Manager then check.bad_self("Manager:shutdown", "mp.Manager", self) end
    self.is_shut_down = true
end

Manager.__index = makers
Manager.__close = makers.shutdown

function Manager:__tostring()
    return ("mp.Manager: %s (%s)"):format(client.of(self).address.shown, self.namespace)
end

--- Connects to a server.
---@param text string
---@param options mpengine.remote.Options?
---@return mpengine.remote.Manager
local function open(text, options)
    local address, why = url.parse(text)
    if not address then error(("Manager: '%s' is no URL of a server: %s"):format(url.masked(text), why), 2) end
    if options ~= nil then check.type("Manager", 2, options, "table") end
    options = options or {}
    check_options(options)
    require("mpengine.remote.envelope").key(options.key_file)
    local self = object.manager {
        url = text, namespace = options.namespace or "default", key_file = options.key_file, ca = options.ca,
        timeout = options.timeout or 30, lease = options.lease or 15,
    }
    local c = client.of(self)
    c:connected("commands", require("mpengine.core").now() + c.timeout, true)
    return self
end

return { Manager = open }
