--- The end of a program's tasks: when its main chunk has ended, and when none of them can go on.
local core = require "mpengine.core"
local tasks = require "mpengine.co.tasks"

local ending = {}

local function others()
    local found, me, main = {}, core.current(), core.main_task()
    for _, task in ipairs(core.tasks()) do
        if task ~= me and task ~= main then found[#found + 1] = task end
    end
    return found
end

--- Kills all tasks and waits for their ends, as often as their close handlers start new ones.
function ending.kill_tasks()
    local list = others()
    for _ = 1, 100 do
        if #list == 0 then return end
        tasks.killall(list, "end")
        core.joinall(list)
        list = others()
    end
end

-- ---- the end of a state of stock Lua ----

-- lua_close calls finalizers from the newest to the oldest. That of the sentinel comes before those
-- of the objects that its tasks may use, if it is newer: so spawn asks for a new one when there are
-- objects that the last one is older than.
local sentinel
local meta = {
    __gc = function(self)
        if self == sentinel then ending.kill_tasks() end
    end,
}

local function arm()
    sentinel = setmetatable({}, meta)
end
debug.getregistry()["mpengine.arm"] = arm
arm()

-- ---- nothing can go on ----

-- The innermost line of Lua on the stack of a thread: "script.lua:3".
local function line_of(thread)
    for level = 0, 50 do
        local info = debug.getinfo(thread, level, "Sl")
        if not info then break end
        if info.currentline > 0 and not info.short_src:find("mpengine/co", 1, true) then
            return ("%s:%d"):format(info.short_src, info.currentline)
        end
    end
    return "?"
end

local function describe(task)
    local text = ("  %s waits for %s at %s"):format(task.name, core.waits_for(task) or "something",
        line_of(core.waiting_thread(task)))
    local place = tasks.spawn_place(task)
    return place and text .. "; spawned by" .. place:gsub("\n\t", " ") or text
end

--- The message of the error that ends such a program.
function ending.deadlock()
    local lines = { "every task waits for something that can never come:" }
    local list = core.tasks()
    table.sort(list, function(a, b) return core.task_id(a) < core.task_id(b) end)
    for _, task in ipairs(list) do
        if core.task_state(task) == "waiting" then lines[#lines + 1] = describe(task) end
    end
    return table.concat(lines, "\n")
end
debug.getregistry()["mpengine.deadlock"] = ending.deadlock

return ending
