--- mp.get_context: the whole API bound to one start method.
local mp = require "mpengine"
local context = require "mpengine.context"
local process = require "mpengine.process"

local contexts = {}

local made = {}

local function new(name)
    local ctx = {}
    function ctx.get_start_method() return name end
    function ctx.set_start_method()
        error(("set_start_method: the start method of this context is fixed (%s)"):format(name), 2)
    end
    function ctx.Process(...) return context.with(name, process.Process, ...) end
    function ctx.Pool(...) return context.with(name, mp.Pool, ...) end
    function ctx.Supervisor(...) return context.with(name, mp.Supervisor, ...) end
    function ctx.get_context(other) return contexts.get_context(other or name) end
    return setmetatable(ctx, { __index = mp })
end

--- A table with this whole API, whose processes are started by one method.
---@param name? "fork"|"spawn"|"forkserver"
function contexts.get_context(name)
    if name == nil then name = context.get_start_method() end
    context.check_method("get_context", name)
    made[name] = made[name] or new(name)
    return made[name]
end

return contexts
