--- The end of a program's tasks, when its main chunk has ended.
local core = require "mpengine.core"
local hooks = require "mpengine.hooks"
local tasks = require "mpengine.co.tasks"

local function others()
    local found, me, main = {}, core.current(), core.main_task()
    for _, task in ipairs(core.tasks()) do
        if task ~= me and task ~= main then found[#found + 1] = task end
    end
    return found
end

--- Kills all tasks and waits until they have ended, repeatedly if their close handlers start new
--- ones.
local function kill_tasks()
    local list = others()
    for _ = 1, 100 do
        if #list == 0 then return end
        tasks.killall(list, "end")
        core.joinall(list)
        list = others()
    end
end

-- ---- the end of a state of stock Lua ----

-- lua_close calls finalizers from the newest to the oldest. The sentinel's finalizer must run
-- before those of the objects that the tasks may use, so the sentinel must be newer than them.
-- So spawn has a new one made when objects exist that are newer than the last sentinel.
local sentinel
local meta = {
    __gc = function(self)
        if self == sentinel then kill_tasks() end
    end,
}

function hooks.renew_sentinel() sentinel = setmetatable({}, meta) end

hooks.kill_tasks = kill_tasks
hooks.renew_sentinel()
