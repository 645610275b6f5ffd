--- Waiting for several things: joinall, wait and iwait.
local core = require "mpengine.core"
local check = require "mpengine.co.check"
local tasks = require "mpengine.co.tasks"

local waiting = {}

local Task = core.Task

-- Is a thing ready, found out by the methods it has. Those of co say by __ready.
local function is_ready(x)
    local meta = getmetatable(x)
    if meta == Task then return core.task_state(x) == "done" end
    local ready = type(meta) == "table" and meta.__ready
    if ready then return ready(x) end
    return require("mpengine.wait").is_ready(x)
end

-- What core.file_any takes for it.
local function waitable(x)
    local meta = getmetatable(x)
    if meta == Task then return x end
    local file = type(meta) == "table" and meta.__waitable
    if file then return file(x) end
    return require("mpengine.wait").waitable(x)
end

local function collect_ready(pending, found, limit)
    local n = 0
    for i = 1, #pending do
        local x = pending[i]
        if #found < limit and is_ready(x) then
            found[#found + 1] = x
        else
            n = n + 1
            pending[n] = x
        end
    end
    for i = #pending, n + 1, -1 do pending[i] = nil end
end

-- Waits until one of them is ready: true, or nil, "timeout".
local function wait_any(pending, deadline)
    local list = {}
    for i, x in ipairs(pending) do list[i] = waitable(x) end
    local filed <close> = core.file_any(list)
    for _, x in ipairs(pending) do
        if is_ready(x) then return true end
    end
    local left = deadline and math.max(0, deadline - core.now())
    return core.wait_any(filed, left)
end

local function copy(call, list)
    if type(list) ~= "table" then
        error(("bad argument #1 to '%s' (table expected, got %s)"):format(call,
            list == nil and "no value" or type(list)), 3)
    end
    return table.move(list, 1, #list, 1, {})
end

local function wait_some(pending, timeout, count)
    local found, deadline = {}, timeout and core.now() + timeout
    count = math.min(count or math.huge, #pending)
    collect_ready(pending, found, count)
    while #found < count do
        if not wait_any(pending, deadline) then
            collect_ready(pending, found, count)
            break
        end
        collect_ready(pending, found, count)
    end
    return found
end

local function wait_for_all_tasks(timeout)
    local deadline, me = timeout and core.now() + timeout, tasks.current()
    while true do
        local others = {}
        for _, task in ipairs(core.tasks()) do
            if task ~= me and task ~= core.main_task() then others[#others + 1] = task end
        end
        if #others == 0 then return true end
        local left = deadline and math.max(0, deadline - core.now())
        local ok, why = core.joinall(others, left)
        if not ok then return nil, why end
    end
end

--- Those of a list that are ready, when all (or count) of them are or the time is over, in the
--- order in which they became so. Without arguments: waits for all tasks, true or nil, "timeout".
---@param objects? table  tasks, objects of co and of mp
---@param timeout? number
---@param count? integer
function waiting.wait(objects, timeout, count)
    check.timeout("wait", 2, timeout)
    check.count("wait", 3, count, 1, "count")
    if objects == nil then return wait_for_all_tasks(timeout) end
    return wait_some(copy("wait", objects), timeout, count)
end

--- for x in co.iwait(objects): each as it becomes ready, until all were or the time is over.
---@param objects table
---@param timeout? number
function waiting.iwait(objects, timeout)
    check.timeout("iwait", 2, timeout)
    local pending, found, at = copy("iwait", objects), {}, 0
    local deadline = timeout and core.now() + timeout
    return function()
        while at == #found do
            if #pending == 0 then return nil end
            collect_ready(pending, found, math.huge)
            if at == #found and not wait_any(pending, deadline) then
                collect_ready(pending, found, math.huge)
                if at == #found then return nil end
            end
        end
        at = at + 1
        return found[at]
    end
end

local function raise_of(task)
    local _, outcome = core.task_state(task)
    if outcome == false then error((core.results(task)), 0) end
end

local function joinall_in_parts(pending, timeout, opts)
    local found, deadline = {}, timeout and core.now() + timeout
    local count = math.min(opts.count or math.huge, #pending)
    local checked = 0
    repeat
        local before = #found
        collect_ready(pending, found, count)
        if opts.raise_error then
            for i = checked + 1, #found do raise_of(found[i]) end
            checked = #found
        end
        if #found >= count then break end
    until #found == before and not wait_any(pending, deadline)
    return found
end

--- Waits for tasks: the list of those that have ended, in the order of their ends. opts.count ends
--- the wait when so many have; opts.raise_error raises the error of the first that failed.
---@param list mp.Task[]
---@param timeout? number
---@param opts? { count?: integer, raise_error?: boolean }
---@return mp.Task[]
function waiting.joinall(list, timeout, opts)
    check.type("joinall", 1, list, "table")
    check.timeout("joinall", 2, timeout)
    if opts ~= nil then
        check.type("joinall", 3, opts, "table")
        for key in pairs(opts) do
            if key ~= "count" and key ~= "raise_error" then
                error(("joinall: unknown option '%s' (count and raise_error expected)"):format(tostring(key)), 2)
            end
        end
        check.count("joinall", 3, opts.count, 1, "count")
        for i, task in ipairs(list) do tasks.check_element("joinall", i, task) end
        if opts.count or opts.raise_error then return joinall_in_parts(copy("joinall", list), timeout, opts) end
    end
    local _, _, ended = core.joinall(list, timeout)
    return ended
end

return waiting
