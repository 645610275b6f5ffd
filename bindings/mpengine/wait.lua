--- mp.wait: the ready ones among objects of both families, processes, results and tasks (waitable.lua).
local core = require "mpengine.core"
local check = require "mpengine.check"
local waitable = require "mpengine.waitable"

--- mp.wait(list [, timeout]) -> list of the ready ones, in their order; empty after the timeout.
local function wait(list, timeout)
    local set = waitable.set("wait", list)
    check.timeout("wait", 2, timeout)
    local deadline = timeout and core.now() + timeout
    local found = waitable.ready(set)
    while #found == 0 and set.n > 0 and not (deadline and core.now() >= deadline) do
        waitable.wait_any(set, deadline)
        found = waitable.ready(set)
    end
    core.did(found[1])
    return found
end

return { wait = wait }
