--- What looks wrong in a dump: cycles of waits, locks that are waited for long, queues that only
--- grow, and tasks that do not come to run. A mark is { kind, text }.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local tasks = require "mpengine.look.tasks"

local marks = {}

local LONG <const> = 1           -- seconds
local MANY_ITEMS <const> = 100

--- Why a host does not answer, which is nothing wrong.
marks.HOST = "it belongs to a host, whose signals are its own"

local function add(list, kind, format, ...)
    list[#list + 1] = { kind = kind, text = format:format(...) }
end

local function name_of(id, group, process)
    return ("%s of %s (pid %d)"):format(core.escaped(tasks.name(id, group)), core.escaped(process.name), process.pid)
end

local function place_of(group)
    for _, line in ipairs(group.stack) do
        local place = line:match("^(.-:%d+):")
        if place then return " at " .. place end
    end
    return ""
end

-- ---- cycles ----

--- A step: a task on the way, by its number, group and process. All tasks of a group depend on the same
--- ones, so two ways that meet in a group go on together, and it is enough to look at groups.
local function step_to(process, id)
    local group = process and id and process.tasks:find(id)
    return group and { id = id, group = group, process = process }
end

--- The tasks that must go on, or end, before one: the holder of what it waits for, the main one of a process whose
--- end it waits for, or all those that it joins.
local function depends_of(step, by_slot)
    local group, list = step.group, {}
    local other = group.slot and by_slot[group.slot]
    if other then list[1] = step_to(other, group.holder == 0 and other.tasks.main or group.holder) end
    for _, id in ipairs(group.depends or {}) do list[#list + 1] = step_to(step.process, id) end
    return list
end

--- Follows all ways from a task: the first cycle among them, as a list of steps. done has the groups that lie on
--- no way that is still to be followed.
local function cycle_from(first, by_slot, done)
    local path, at = {}, {}
    local function enter(step)
        step.next, step.depends = 0, depends_of(step, by_slot)
        path[#path + 1] = step
        at[step.group] = #path
    end
    enter(first)
    while #path > 0 do
        local step = path[#path]
        step.next = step.next + 1
        local other = step.depends[step.next]
        if not other then
            done[step.group], at[step.group], path[#path] = true, nil, nil
        elseif at[other.group] then
            local from = at[other.group]
            path[from].id = other.id
            for _, passed in ipairs(path) do done[passed.group] = true end
            return table.move(path, from, #path, 1, {})
        elseif not done[other.group] then
            enter(other)
        end
    end
end

local function add_cycles(list, processes, by_slot)
    local done = {}
    for _, process in ipairs(processes) do
        for _, group in ipairs(process.tasks.groups) do
            local may = (group.holder or group.depends) and not done[group]
            local cycle = may and cycle_from({ id = group.first, group = group, process = process }, by_slot, done)
            if cycle then
                local steps = {}
                for i, step in ipairs(cycle) do
                    local other = cycle[i % #cycle + 1]
                    steps[#steps + 1] = ("%s waits%s for %s, which depends on %s"):format(
                        name_of(step.id, step.group, step.process), place_of(step.group), step.group.waits_for or "?",
                        name_of(other.id, other.group, other.process))
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
                ("%s (pid %d)"):format(core.escaped(object.holder.process), object.holder.pid), seconds)
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
    for _, group in ipairs(process.tasks.groups) do
        if group.state == "ready" then ready = ready + group.count end
        running = group.state == "running" and group or running
    end
    if not running or (process.running_for or 0) < LONG then return end
    local others = ready > 0 and (", and %d %s ready and cannot run"):format(ready, ready == 1 and "task is" or
        "tasks are") or ""
    add(list, "busy", "%s has run%s for %.1f s without waiting%s", name_of(running.first, running, process),
        place_of(running), process.running_for, others)
end

local function add_processes(list, processes)
    for _, process in ipairs(processes) do
        add_busy(list, process)
        if not process.answered and process.reason ~= marks.HOST then
            local holds = #process.holds > 0 and ", and holds " .. table.concat(process.holds, ", ") or ""
            add(list, "silent", "%s (pid %d) does not answer: %s%s", core.escaped(process.name), process.pid,
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
