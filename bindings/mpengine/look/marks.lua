--- What looks wrong in a dump: cycles of waits, locks that are waited for long, queues that only
--- grow, and tasks that do not come to run. A mark is { kind, text }.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local marks = {}

local LONG <const> = 1           -- seconds
local MANY_ITEMS <const> = 100

local function add(list, kind, format, ...)
    list[#list + 1] = { kind = kind, text = format:format(...) }
end

local function name_of(task, process)
    return ("%s of %s (pid %d)"):format(task.name, process.name, process.pid)
end

local function place_of(task)
    for _, line in ipairs(task.stack) do
        local place = line:match("^(.-:%d+):")
        if place then return " at " .. place end
    end
    return ""
end

-- ---- cycles ----

--- The task that a task waits for: the main one of a process whose end it waits for, or the holder.
local function next_of(task, by_slot)
    local process = task.slot and by_slot[task.slot]
    if not process or not task.holder then return nil end
    for i, other in ipairs(process.tasks) do
        if task.holder == 0 and i == 1 or other.id == task.holder then return other, process end
    end
end

local function cycle_from(first, process, by_slot, done)
    local path, at, task = {}, {}, first
    while task and not done[task] and not at[task] do
        path[#path + 1] = { task = task, process = process }
        at[task] = #path
        task, process = next_of(task, by_slot)
    end
    for _, step in ipairs(path) do done[step.task] = true end
    return task and at[task] and table.move(path, at[task], #path, 1, {})
end

local function add_cycles(list, processes, by_slot)
    local done = {}
    for _, process in ipairs(processes) do
        for _, task in ipairs(process.tasks) do
            local cycle = task.holder and cycle_from(task, process, by_slot, done)
            if cycle then
                local steps = {}
                for i, step in ipairs(cycle) do
                    local other = cycle[i % #cycle + 1]
                    steps[#steps + 1] = ("%s waits%s for %s, which depends on %s"):format(
                        name_of(step.task, step.process), place_of(step.task), step.task.waits_for or "?",
                        name_of(other.task, other.process))
                end
                add(list, "cycle", "tasks wait for each other: %s", table.concat(steps, "; "))
            end
        end
    end
end

-- ---- the others ----

local function title(object)
    local place = object.place and ", made at " .. object.place or ""
    return ("mp.%s%s (%s%s)"):format(object.kind, object.name and " '" .. object.name .. "'" or "", object.address,
        place)
end

local function longest(object)
    local most = 0
    for _, waiter in ipairs(object.waiting) do most = math.max(most, waiter.seconds or 0) end
    return most
end

local function add_objects(list, objects)
    for _, object in ipairs(objects) do
        local seconds = object.holder and longest(object) or 0
        if seconds >= LONG then
            add(list, "held", "%s is held by %s%s, and has been waited for for %.1f s", title(object),
                object.holder.task and object.holder.task .. " of " or "",
                ("%s (pid %d)"):format(object.holder.process, object.holder.pid), seconds)
        end
        if (object.items or 0) >= MANY_ITEMS then
            if object.gets == 0 then
                add(list, "grows", "%s has %d items, and none was ever taken", title(object), object.items)
            elseif (object.grown or 0) > 0 and object.taken == 0 then
                add(list, "grows", "%s has %d items: %d more in %.2f s, and none was taken", title(object),
                    object.items + object.grown, object.grown, object.grown_in)
            elseif (object.grown or 0) > object.items // 100 then
                add(list, "grows", "%s has %d items: %d more in %.2f s, faster than they are taken", title(object),
                    object.items + object.grown, object.grown, object.grown_in)
            end
        end
    end
end

local function add_busy(list, process)
    local ready, running = 0, nil
    for _, task in ipairs(process.tasks) do
        if task.state == "ready" then ready = ready + 1 end
        running = task.state == "running" and task or running
    end
    if not running or (process.running_for or 0) < LONG then return end
    local others = ready > 0 and (", and %d %s ready and cannot run"):format(ready, ready == 1 and "task is" or
        "tasks are") or ""
    add(list, "busy", "%s has run%s for %.1f s without waiting%s", name_of(running, process), place_of(running),
        process.running_for, others)
end

local function add_processes(list, processes)
    for _, process in ipairs(processes) do
        add_busy(list, process)
        if not process.answered then
            local holds = #process.holds > 0 and ", and holds " .. table.concat(process.holds, ", ") or ""
            add(list, "silent", "%s (pid %d) does not answer: %s%s", process.name, process.pid,
                process.reason or "?", holds)
        end
    end
end

--- The marks of a dump.
function marks.of(processes, objects, by_slot)
    local list = {}
    add_cycles(list, processes, by_slot)
    add_objects(list, objects)
    add_processes(list, processes)
    return list
end

return marks
