--- Waiting for several things: joinall, wait and iwait.
local core = require "mpengine.core"
local check = require "mpengine.check"
local tasks = require "mpengine.co.tasks"
local waitable = require "mpengine.waitable"

local waiting = {}

local set_of, take_ready, wait_any = waitable.set, waitable.take_ready, waitable.wait_any

local function wait_some(pending, timeout, count)
    local found, deadline = {}, timeout and core.now() + timeout
    count = math.min(count or math.huge, pending.n)
    take_ready(pending, found, count)
    if #found == count then core.did(true) end
    while #found < count do
        local more = wait_any(pending, deadline)
        take_ready(pending, found, count)
        if not more then break end
    end
    return found
end

local function wait_for_all_tasks(timeout)
    local deadline, me, main = timeout and core.now() + timeout, core.current(), core.main_task()
    while true do
        local others = {}
        for _, task in ipairs(core.tasks()) do
            if task ~= me and task ~= main then others[#others + 1] = task end
        end
        if #others == 0 then return true end
        local left = deadline and math.max(0, deadline - core.now())
        if #core.joinall(others, left) < #others then return nil, "timeout" end
    end
end

--- The objects of a list that are ready, when all (or count) of them are or the time is over, in
--- the order in which they became ready. Without arguments: waits for all tasks, true or nil,
--- "timeout".
---@param objects? table  tasks, objects of co and of mp
---@param timeout? number
---@param count? integer
function waiting.wait(objects, timeout, count)
    check.timeout("co.wait", 2, timeout)
    check.count("co.wait", 3, count, 1, "count")
    if objects == nil then return wait_for_all_tasks(timeout) end
    return wait_some(set_of("co.wait", objects), timeout, count)
end

--- for x in co.iwait(objects): each as it becomes ready, until all were ready or the time is over.
---@param objects table
---@param timeout? number
function waiting.iwait(objects, timeout)
    check.timeout("co.iwait", 2, timeout)
    local pending, found, at = set_of("co.iwait", objects), {}, 0
    local deadline = timeout and core.now() + timeout
    return function()
        while at == #found do
            if pending.n == 0 then return nil end
            local more = wait_any(pending, deadline)
            take_ready(pending, found, math.huge)
            if not more and at == #found then return nil end
        end
        at = at + 1
        core.did(true)
        return found[at]
    end
end

-- joinall's listener: an error that it hears and then does not raise is printed after all.
local Hearing = {}

function Hearing.__close(self)
    for task in pairs(self.tasks) do tasks.unlisten(task, self) end
    if self.heard and self.heard ~= self.raised then tasks.report(self.heard) end
end

local function hear(list)
    local self = setmetatable({ tasks = {} }, Hearing)
    for i, task in ipairs(list) do
        if getmetatable(task) ~= core.Task then
            error(string.format("joinall: element %d is not a task (a %s)", i, type(task)), 4)
        end
        if not core.is_done(task) then
            tasks.listen(task, self)
            self.tasks[task] = true
        end
    end
    return self
end

local function raise_of(hearing, task)
    local _, outcome = core.task_state(task)
    if outcome ~= false then return end
    hearing.raised = task
    local err = core.results(task)
    core.set_traceback(err, tasks.origin(task))
    error(err, 0)
end

local function joinall_in_parts(pending, timeout, opts)
    local found, deadline = {}, timeout and core.now() + timeout
    local hearing <close> = opts.raise_error and hear(pending.objects) or nil
    local count, more = math.min(opts.count or math.huge, pending.n), true
    local checked = 0
    while true do
        take_ready(pending, found, count)
        if opts.raise_error then
            for i = checked + 1, #found do raise_of(hearing, found[i]) end
            checked = #found
        end
        if #found >= count or not more then return found end
        more = wait_any(pending, deadline)
    end
end

--- Waits for tasks: the list of those that have ended, in the order in which they ended. opts.count
--- ends the wait when so many have; opts.raise_error raises the error of the first that failed.
---@param list mp.Task[]
---@param timeout? number
---@param opts? { count?: integer, raise_error?: boolean }
---@return mp.Task[]
function waiting.joinall(list, timeout, opts)
    check.type("co.joinall", 1, list, "table")
    check.timeout("co.joinall", 2, timeout)
    if opts ~= nil then
        check.type("co.joinall", 3, opts, "table")
        for key in pairs(opts) do
            if key ~= "count" and key ~= "raise_error" then
                error(("co.joinall: unknown option '%s' (count and raise_error expected)"):format(tostring(key)), 2)
            end
        end
        check.count("co.joinall", 3, opts.count, 1, "count")
        if opts.count or opts.raise_error then
            return joinall_in_parts(set_of("co.joinall", list), timeout, opts)
        end
    end
    return core.joinall(list, timeout)
end

return waiting
