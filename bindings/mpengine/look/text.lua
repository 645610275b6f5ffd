--- Programs and dumps as text, for people. Tasks that are alike are shown once, with their number.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local dump = require "mpengine.look.dump"
local screen = require "mpengine.look.screen"
local tasks = require "mpengine.look.tasks"

local text = {}

local CENSUS <const> = 12 -- lines of objects by place

local function bytes_text(n)
    for _, unit in ipairs { "B", "KiB", "MiB", "GiB" } do
        if n < 1024 or unit == "GiB" then
            return (unit == "B" or n >= 100) and ("%.0f %s"):format(n, unit) or ("%.1f %s"):format(n, unit)
        end
        n = n / 1024
    end
end

local function time_text(seconds)
    if seconds < 60 then return ("%.1f s"):format(seconds) end
    if seconds < 3600 then return ("%d min %02d s"):format(seconds // 60, seconds % 60 // 1) end
    return ("%d h %02d min"):format(seconds // 3600, seconds % 3600 // 60)
end

local function plural(n, word, many) return ("%d %s"):format(n, n == 1 and word or many or word .. "s") end

text.bytes, text.time, text.plural = bytes_text, time_text, plural

-- ---- ps ----

local function row(program)
    local info = program.info
    return {
        tostring(program.pid), tostring(info.processes), tostring(info.tasks), tostring(info.objects),
        bytes_text(info.committed), os.date("%Y-%m-%d %H:%M:%S", info.created // 1 | 0),
        core.escaped(program.script) .. (program.main_ended and " (its main process has ended)" or ""),
    }
end

--- The list of programs, as ps prints it.
function text.programs(programs, unreadable)
    local rows = { { "PID", "PROCESSES", "TASKS", "OBJECTS", "MEMORY", "SINCE", "SCRIPT" } }
    for _, program in ipairs(programs) do rows[#rows + 1] = row(program) end
    for _, pid in ipairs(unreadable or {}) do
        rows[#rows + 1] = { tostring(pid), "?", "?", "?", "?", "?", "(of another version of mpengine)" }
    end
    return table.concat(screen.rows(rows, "rrrrrll", "  "), "\n") .. "\n"
end

-- ---- dump ----

local function add(out, format, ...) out[#out + 1] = format:format(...) end

local function state_of(group)
    if group.state ~= "waiting" then return group.state end
    return "waits for " .. (group.waits_for or "something")
end

--- What is shown of the tasks of a process, in the order of their numbers: groups, and each task that holds
--- something by itself.
local function entries_of(found)
    local list, left = {}, {}
    for id, held in pairs(found.holds) do
        local group, seconds = found:find(id)
        left[group] = (left[group] or group.count) - 1
        list[#list + 1] = { group = group, id = id, count = 1, holds = held, least = seconds, most = seconds }
    end
    for _, group in ipairs(found.groups) do
        local count = left[group] or group.count
        if count > 0 then
            local id = group.first
            if count == 1 and found.holds[id] then id = nil end
            list[#list + 1] = { group = group, id = id, count = count, least = group.least, most = group.most }
        end
    end
    table.sort(list, function(a, b) return (a.id or a.group.first) < (b.id or b.group.first) end)
    return list
end

local function duration(entry)
    if entry.group.state ~= "waiting" then return "" end
    local least, most = time_text(entry.least), time_text(entry.most)
    return least == most and (" for %s"):format(most) or (" for %s to %s"):format(least, most)
end

local function add_task(out, entry)
    local group = entry.group
    local count = entry.count > 1 and ("%d tasks "):format(entry.count) or "task "
    local number = entry.count == 1 and entry.id and (" #%d"):format(entry.id) or ""
    local holder = group.holder_is and group.holder_is.task
        and (", which depends on %s of %s"):format(core.escaped(group.holder_is.task),
            core.escaped(group.holder_is.process)) or ""
    local name = group.name or entry.count == 1 and tasks.name(entry.id or group.first, group) or "without a name"
    add(out, "  %s%s%s: %s%s%s", count, core.escaped(name), number, state_of(group), duration(entry), holder)
    if entry.holds then add(out, "      holds %s", table.concat(entry.holds, ", ")) end
    for _, line in ipairs(group.stack) do add(out, "      %s", line) end
    if #group.spawned > 0 then add(out, "      spawned by %s", table.concat(group.spawned, ", ")) end
end

local function add_process(out, process)
    local parts = { process.state }
    if process.cpu then parts[#parts + 1] = ("CPU %.2f s"):format(process.cpu) end
    if process.memory then parts[#parts + 1] = "memory " .. bytes_text(process.memory) end
    if process.heap then parts[#parts + 1] = "Lua heap " .. bytes_text(process.heap) end
    parts[#parts + 1] = plural(process.answered and process.tasks.count or process.task_count, "task")
    add(out, "\nprocess %s (pid %d%s): %s", core.escaped(process.name), process.pid,
        process.parent and ", of " .. process.parent or "", table.concat(parts, ", "))
    if process.pool_task then
        add(out, "  runs %s of its pool for %s", process.pool_task.runs or "a task",
            time_text(process.pool_task.seconds or 0))
    end
    if not process.answered then
        local kernel = process.kernel or {}
        add(out, "  does not answer: %s (the kernel says: %s%s)", process.reason or "?", kernel.state or "?",
            kernel.wchan and ", in " .. kernel.wchan or "")
        if #process.holds > 0 then add(out, "  holds %s", table.concat(process.holds, ", ")) end
        if #process.waits > 0 then add(out, "  waits for %s", table.concat(process.waits, ", ")) end
    end
    for _, entry in ipairs(entries_of(process.tasks)) do add_task(out, entry) end
end

local function person_text(p)
    local task = p.task and core.escaped(p.task) .. " of " or ""
    return ("%s%s (pid %d)"):format(task, core.escaped(p.process), p.pid)
end

--- Waiters that are alike, with their number.
local function add_waiters(out, waiting)
    local list, count, most = {}, {}, {}
    for _, waiter in ipairs(waiting) do
        local who = person_text(waiter)
        if not count[who] then list[#list + 1] = who end
        count[who] = (count[who] or 0) + (waiter.tasks or 1)
        most[who] = math.max(most[who] or 0, waiter.seconds or 0)
    end
    for _, who in ipairs(list) do
        add(out, "      waited for by %s%s, for %s", count[who] > 1 and plural(count[who], "task") .. " " or "", who,
            time_text(most[who]))
    end
end

local function add_objects(out, objects)
    if #objects == 0 then return end
    out[#out + 1] = "\nobjects that are held, waited for, or have items:"
    for _, object in ipairs(objects) do
        local state = dump.state_of(object)
        add(out, "  mp.%s %s%s%s%s", object.kind, object.address, object.name and " '" .. object.name .. "'" or "",
            state and ": " .. state or "", object.place and ", made at " .. object.place or "")
        if object.holder then add(out, "      held by %s", person_text(object.holder)) end
        add_waiters(out, object.waiting)
    end
end

local function add_pool(out, pool)
    local counts = pool.told and ("%d queued, %d outstanding, %d completed, %d failed"):format(pool.queued,
        pool.outstanding, pool.completed, pool.failed) or "its process does not answer"
    add(out, "\npool%s, made at %s: %s, %s", pool.name and " '" .. pool.name .. "'" or "", pool.place or "?",
        plural(#pool.workers, "worker"), counts)
    for _, w in ipairs(pool.workers) do
        local what = w.state == "busy" and ("runs %s for %s"):format(w.runs or "a task", time_text(w.seconds or 0))
            or w.state
        add(out, "  %s (pid %d): %s, %s so far", w.name or "?", w.pid or 0, what, plural(w.tasks or 0, "task"))
    end
end

local function add_supervisors(out, process)
    for _, supervisor in ipairs(process.supervisors or {}) do
        add(out, "\nsupervisor '%s' of %s (pid %d): %s", core.escaped(supervisor.name), core.escaped(process.name),
            process.pid, supervisor.state)
        for _, child in ipairs(supervisor.children) do
            add(out, "  %s%s: %s, %s%s", core.escaped(child.name), child.pid and (" (pid %d)"):format(child.pid) or "",
                child.state, plural(child.restarts, "restart"),
                child.exitcode and (", the last one ended with %d"):format(child.exitcode) or "")
        end
    end
end

local function add_census(out, census)
    if #census == 0 then return end
    out[#out + 1] = "\nobjects by the place where they were made:"
    for i = 1, math.min(#census, CENSUS) do
        local c = census[i]
        add(out, "  %6d mp.%s made at %s%s", c.count, c.kind, c.place,
            c.items > 0 and (", with %d items in all"):format(c.items) or "")
    end
    if #census > CENSUS then add(out, "  and %d more places", #census - CENSUS) end
end

--- A dump as text.
function text.dump(found)
    local program, out = found.program, {}
    add(out, "program %d: %s, %s, %s, %s, shared memory %s, running for %s%s", program.pid,
        core.escaped(program.script), plural(program.processes, "process", "processes"),
        plural(program.tasks, "task"), plural(program.objects, "object"), bytes_text(program.committed),
        time_text(program.seconds), program.main_ended and ", its main process has ended" or "")
    for _, mark in ipairs(found.marks) do add(out, "! %s", mark.text) end
    for _, process in ipairs(found.processes) do add_process(out, process) end
    add_objects(out, found.objects)
    for _, pool in ipairs(found.pools) do add_pool(out, pool) end
    for _, process in ipairs(found.processes) do add_supervisors(out, process) end
    add_census(out, found.census)
    return table.concat(out, "\n") .. "\n"
end

return text
