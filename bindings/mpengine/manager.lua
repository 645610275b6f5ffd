--- mp.Manager: the shared objects under the names of Python's manager. There is no server process:
--- all its objects are in shared memory and visible to every process that has them.
local core = require "mpengine.core"
local mp = require "mpengine"
local check = require "mpengine.check"

local Manager = { __name = "mp.Manager" }

local makers = { dict = mp.Dict, list = mp.List, Namespace = mp.Dict }

-- Python's manager does not make these.
local others = { Pipe = true, RawArray = true, RawValue = true }

for name in pairs(core.makers) do
    if not others[name] then makers[name] = mp[name] end
end

function makers.Pool(...)
    return require("mpengine.pool").Pool(...)
end

local function check_self(name, self)
    if getmetatable(self) ~= Manager then check.bad_self("Manager:" .. name, "mp.Manager", self) end
end

local methods = {}

for name, make in pairs(makers) do
    methods[name] = function(self, ...)
        check_self(name, self)
        if self.is_shut_down then error("Manager:" .. name .. ": the manager is shut down") end
        return make(...)
    end
end

--- The manager makes no more objects; existing ones stay usable as long as a process holds them.
function methods:shutdown()
    check_self("shutdown", self)
    self.is_shut_down = true
end

Manager.__index = methods
Manager.__close = methods.shutdown

function Manager:__tostring()
    return ("mp.Manager: %p"):format(self)
end

--- Without a URL the objects of this program's shared memory, with one those of a server.
local function new(url, options)
    if url == nil then return setmetatable({}, Manager) end
    check.type("Manager", 1, url, "string")
    return require("mpengine.remote.manager").Manager(url, options)
end

return { Manager = new }
