--- co.every: a function that is called again and again, at fixed times.
local core = require "mpengine.core"
local check = require "mpengine.check"
local tasks = require "mpengine.co.tasks"

-- Each turn is a task, so that its error is reported as any task's. It ends with the whole.
local Turn = {
    __close = function(self)
        self.task:kill "every"
        self.task:join()
    end,
}

local function turns(start, seconds, f, ...)
    local n = 0
    while true do
        n = math.max(n, math.floor((core.now() - start) / seconds)) + 1 -- late turns are skipped
        core.sleep(math.max(0, start + n * seconds - core.now()))
        local turn <close> = setmetatable({ task = core.spawn_task(f, ...) }, Turn)
        turn.task.name = tasks.current().name
        turn.task:join()
    end
end

--- A task that calls f(...) at each multiple of seconds after now, until it is killed. A turn that
--- comes while f still runs is skipped. An error of f is printed, and the next turn comes.
---@param seconds number
---@param f function
---@return mp.Task
return function(seconds, f, ...)
    if type(seconds) ~= "number" or not (seconds > 0 and seconds < math.huge) then
        check.wrong("co.every", 1, "seconds must be a number, more than 0")
    end
    check.callable("co.every", 2, f)
    local task = core.spawn_task(turns, core.now(), seconds, f, ...)
    task.name = "every " .. seconds .. " s"
    return task
end
