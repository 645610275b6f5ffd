--- The report of a deadlock: each task, what it waits for, and the line. For one process that is
--- the message of the error its main chunk gets. When all processes wait for each other, each of
--- them gets the error. All send what they know to one process, which reports all of it; the others
--- exit silently. They exit only after the report, since the locks that an exit releases are part
--- of it.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local tasks = require "mpengine.co.tasks"

local deadlock = {}

local PATIENCE <const> = 2 -- seconds to wait for processes that are killed or stopped at that moment

local told -- the error of this process when another one reports the deadlock

-- ---- of this process ----

-- The innermost line of the script on the stack of a thread, " at script.lua:3"; "" outside it.
local function place_of(thread)
    for level = 0, 100 do
        local info = debug.getinfo(thread, level, "Sl")
        if not info then break end
        if info.currentline > 0 and not errors.is_library(info) then
            return string.format(" at %s:%d", info.short_src, info.currentline)
        end
    end
    return ""
end

-- The lines of the script that spawned a task.
local function spawned_by(task)
    local place = tasks.spawn_place(task)
    return place and "; spawned by" .. string.gsub(place, "\n\t", " ") or ""
end

-- The tasks that wait: the line of the report for each, and which task of which process it waits
-- for.
local function waiting_tasks()
    local list, found = core.tasks(), {}
    table.sort(list, function(a, b) return core.task_id(a) < core.task_id(b) end)
    for _, task in ipairs(list) do
        if core.task_state(task) == "waiting" then
            local slot, id = core.waits_on(task)
            found[#found + 1] = {
                id = core.task_id(task), main = task == core.main_task(), name = task.name,
                what = core.waits_for(task) or "something", place = place_of(core.waiting_thread(task)),
                spawned = spawned_by(task), slot = slot, holder = id,
            }
        end
    end
    return found
end

local function add_tasks(lines, indent, list)
    for _, task in ipairs(list) do
        lines[#lines + 1] = string.format("%s%s waits for %s%s%s",
            indent, task.name, task.what, task.place, task.spawned)
    end
end

local function message_of(list)
    local lines = { "every task waits for something that can never come:" }
    add_tasks(lines, "  ", list)
    return table.concat(lines, "\n")
end

-- ---- of all processes ----

-- The task that a task waits for: the one that holds the lock, or the main one of the process.
local function next_of(task, by_slot)
    local process = task.slot and by_slot[task.slot]
    for _, other in ipairs(process and process.tasks or {}) do
        if task.holder == 0 and other.main or task.holder == other.id then return other, process end
    end
end

--- The first cycle that tasks wait in: a list of { task, process }, or nil.
local function find_cycle(processes, by_slot)
    for _, process in ipairs(processes) do
        for _, first in ipairs(process.tasks) do
            local path, seen, task, at = {}, {}, first, process
            while task and not seen[task] do
                path[#path + 1], seen[task] = { task, at }, true
                task, at = next_of(task, by_slot)
            end
            if task == first then return path end
        end
    end
end

local function add_cycle(lines, cycle)
    lines[#lines + 1] = "in a cycle:"
    for i, step in ipairs(cycle) do
        local task, process, after = step[1], step[2], cycle[i % #cycle + 1]
        lines[#lines + 1] = string.format("  %s of %s waits%s for %s, which depends on %s of %s", task.name,
            process.name, task.place, string.gsub(task.what, " %(.*", ""), after[1].name, after[2].name)
    end
end

local function report(processes)
    local lines, by_slot = { "every process waits for something that can never come:" }, {}
    table.sort(processes, function(a, b) return a.slot < b.slot end)
    for _, process in ipairs(processes) do by_slot[process.slot] = process end
    for _, process in ipairs(processes) do
        for _, task in ipairs(process.tasks) do
            local awaited = task.holder == 0 and by_slot[task.slot]
            if awaited then
                task.what = string.format("the end of %s (pid %d)", core.escaped(awaited.name), awaited.pid)
            end
        end
        lines[#lines + 1] = string.format("  %s (pid %d):", core.escaped(process.name), process.pid)
        add_tasks(lines, "    ", process.tasks)
    end
    local cycle = find_cycle(processes, by_slot)
    if cycle then add_cycle(lines, cycle) end
    return table.concat(lines, "\n")
end

local function collect(queue, processes, own)
    local all, deadline = { own }, core.now() + PATIENCE
    while #all < processes do
        local other = queue:get(math.max(0, deadline - core.now()))
        if not other then break end
        all[#all + 1] = other
    end
    local text = report(all)
    for _ = 2, #all do queue:task_done() end
    return text
end

-- A process that caught the error and is deadlocked once more is ended.
local function hand_in(queue, own)
    if told then core.end_process(1) end
    if not queue:put(own) or not queue:join(PATIENCE) then return message_of(own.tasks) end
    told = string.format("every process waits for something that can never come; this one%s",
        own.tasks[1] and own.tasks[1].place or "")
    return told
end

--- The message of the error that ends this process's wait, or a function that asks the others for
--- it, to be called when the wait has been ended.
function deadlock.describe()
    local list = waiting_tasks()
    local queue, teller, processes = core.deadlock()
    if not queue then return message_of(list) end
    local slot = core.slot()
    local own = { slot = slot, name = core.process_name(), pid = core.pid(), tasks = list }
    return function()
        if slot == teller then return collect(queue, processes, own) end
        return hand_in(queue, own)
    end
end

--- True if this is the error of a deadlock that another process reports.
function deadlock.is_told(err)
    return told ~= nil and err == told
end

return deadlock
