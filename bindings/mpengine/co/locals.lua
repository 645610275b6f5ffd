--- co.Local: fields whose values belong to the task that sets them, and are freed with it. They are
--- kept in the task's notes, which are dropped at its end, although the task itself may be kept for
--- its result.
local core = require "mpengine.core"
local tasks = require "mpengine.co.tasks"

local weak = { __mode = "k" }
local locals = setmetatable({}, weak) -- all co.Local objects

local Local = { __name = "mp.co.Local" }

-- The running task's values in this object, or nil.
local function of_task(self)
    if not locals[self] then error(("mp.co.Local expected, got %s"):format(type(self)), 3) end
    local extra = core.extra((core.current()))
    local all = type(extra) == "table" and extra.locals
    return all and all[self] or nil
end

function Local:__index(key)
    local mine = of_task(self)
    return mine and mine[key]
end

function Local:__newindex(key, value)
    local mine = of_task(self)
    if not mine then
        local notes = tasks.notes((core.current()))
        notes.locals = notes.locals or setmetatable({}, weak)
        mine = {}
        notes.locals[self] = mine
    end
    mine[key] = value
end

function Local:__pairs()
    return next, of_task(self) or {}
end

--- An object in whose fields each task sees its own values.
return function()
    local self = setmetatable({}, Local)
    locals[self] = true
    return self
end
