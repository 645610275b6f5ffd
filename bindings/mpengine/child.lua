--- The beginning of a program that another process of the engine has started: the fork server, or a
--- child started by spawn.
local core = require "mpengine.core"
local process = require "mpengine.process"
require "mpengine"

return function()
    if core.is_server() then
        require "mpengine.co"
        collectgarbage()
        core.serve() -- returns in its children
    end
    core.become_child(process.begin_child)
end
