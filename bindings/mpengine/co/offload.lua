--- co.offload: a function that blocks, on a thread.
local core = require "mpengine.core"
local check = require "mpengine.check"

local function finish(ok, ...)
    if ok then return ... end
    local err, traceback = ...
    if traceback then core.set_traceback(err, traceback) end
    error(err, 0)
end

--- Runs f(...) on a thread with a Lua state of its own and waits for its results. The function is
--- copied with its upvalues, as to another process; its error is raised here.
---@param f function
return function(f, ...)
    check.type("co.offload", 1, f, "function")
    return finish(core.offload(package.path, package.cpath, f, ...))
end
