--- co.Local: fields whose values belong to the task that sets them.
local core = require "mpengine.core"

local current = core.current
local values = setmetatable({}, { __mode = "k" }) -- local object -> task -> key -> value

local Local = { __name = "mp.co.Local" }

local function of_task(self)
    return values[self][(current())]
end

function Local:__index(key)
    local mine = of_task(self)
    return mine and mine[key]
end

function Local:__newindex(key, value)
    local mine = of_task(self)
    if not mine then
        mine = {}
        values[self][(current())] = mine
    end
    mine[key] = value
end

function Local:__pairs()
    return next, of_task(self) or {}
end

--- An object whose fields each task sees its own values of.
return function()
    local self = setmetatable({}, Local)
    values[self] = setmetatable({}, { __mode = "k" })
    return self
end
