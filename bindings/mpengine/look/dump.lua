--- A dump: all that is known of a program, as one table, whose fields docs/debugging.md lists. What
--- the processes answer is put together with what shared memory and /proc tell of them.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local answer = require "mpengine.look.answer"
local marks = require "mpengine.look.marks"
local proc = require "mpengine.look.proc"
local tasks = require "mpengine.look.tasks"

local dump = {}

local VERSION <const> = 1        -- of the fields
local BETWEEN <const> = 0.1      -- seconds between two looks at queues that may only grow
local MANY_ITEMS <const> = 100   -- a queue with so many is looked at again

-- ---- processes and tasks ----

--- Fills in what a process has answered; its pools go into the list. Between two pieces other tasks run: this
--- may be a program that looks at itself.
local function take_answer(process, bytes, pools)
    local pieces = answer.pieces_of(bytes)
    if not pieces[1] then return end
    local head = core.codec.decode(pieces[1])
    process.heap, process.running_for, process.supervisors = head.heap, head.running_for, head.supervisors
    for _, pool in ipairs(head.pools) do
        pool.owner = process.pid
        pools[#pools + 1] = pool
    end
    for i = 2, #pieces do
        process.tasks:add(pieces[i])
        core.rest()
    end
    process.tasks:finish()
end

local WHY <const> = {
    stopped = "it is stopped", mute = marks.HOST, ended = "it has ended",
    silent = "it runs C code, or is blocked in the system",
}

local function state_of(process)
    for _, group in ipairs(process.tasks.groups) do
        if group.state == "running" then return "running" end
    end
    if process.answered then return "waiting" end
    return process.kernel and process.kernel.word or "ended"
end

local function new_process(seen, program)
    local parent = seen.parent and program:process_of(seen.parent)
    return {
        pid = seen.pid, name = seen.name, slot = seen.slot, parent = parent and parent.pid, answered = false,
        task_count = seen.tasks, tasks = tasks.new(), holds = {}, waits = {},
    }
end

local function add_kernel(process)
    local kernel = proc.state(process.pid)
    if not kernel then return false end
    process.kernel = { state = kernel.word, wchan = kernel.wchan, threads = kernel.threads }
    process.cpu, process.memory = kernel.cpu, kernel.memory
    process.kernel.word = kernel.word
    return true
end

local function processes_of(program, answers, pools)
    local list = {}
    for _, seen in ipairs(program.processes) do
        local process, found = new_process(seen, program), answers[seen.slot] or {}
        local lives = add_kernel(process)
        if found.bytes then
            process.answered = true
            take_answer(process, found.bytes, pools)
        else
            process.reason = WHY[found.reason] or found.reason
        end
        process.state = state_of(process)
        if process.kernel then process.kernel.word = nil end
        if lives or process.answered then list[#list + 1] = process end
    end
    return list
end

-- ---- objects ----

--- A process, and its task of that number, when it is known.
local function person(process, id)
    if not process then return nil end
    local group = id and process.tasks:find(id)
    return {
        pid = process.pid, process = process.name, task = group and tasks.name(id, group), id = group and id or nil,
    }
end

--- "mp.Lock 'till'": an object in words, without its state.
function dump.title(object)
    local name = object.name and (" '%s'"):format(object.name) or ""
    return ("mp.%s%s"):format(object.kind, name)
end

--- Those of a process that wait for an object, by its handle: groups.
local function waiting_groups(process)
    local by_handle = {}
    for _, group in ipairs(process.tasks.groups) do
        if group.object then
            local list = by_handle[group.object] or {}
            list[#list + 1], by_handle[group.object] = group, list
        end
    end
    return by_handle
end

local alike = setmetatable({}, { __mode = "k" }) -- an entry of several tasks -> their process and group

local function waiting_on(object, by_slot)
    local list = {}
    for _, slot in ipairs(object.waiting or {}) do
        local process = by_slot[slot]
        local groups = process and process.waiting[object.handle]
        for _, group in ipairs(groups or {}) do
            local entry = person(process)
            entry.task, entry.id, entry.seconds = tasks.name(group.first, group), group.first, group.most
            if group.count > 1 then entry.tasks, alike[entry] = group.count, { process, group } end
            list[#list + 1] = entry
        end
        if process and not groups then
            list[#list + 1] = person(process)
            if not process.answered then process.waits[#process.waits + 1] = dump.title(object) end
        end
    end
    return list
end

local function show_object(seen, by_slot)
    local object = {
        kind = seen.kind, name = seen.name and core.escaped(seen.name), place = seen.place, holders = seen.holders,
        address = ("0x%x"):format(seen.handle & 0xffffffffffffff), handle = seen.handle, waiting = seen.waiting,
        abandoned = seen.abandoned or nil,
    }
    if seen.bound > 0 then object.bound = seen.bound end
    if seen.kind:find "Queue" then
        object.items, object.puts, object.gets = seen.depth, seen.puts, seen.gets
        object.closed = seen.is_closed or nil
    elseif seen.kind:find "Semaphore" then
        object.permits = seen.depth
    elseif seen.kind == "Event" then
        object.set = seen.is_set
    elseif seen.kind == "Barrier" then
        object.arrived, object.broken = seen.depth, seen.is_closed or nil
    end
    local owner = seen.owner and by_slot[seen.owner]
    if seen.owner then
        object.holder = person(owner, seen.owner_task) or { pid = 0, process = "?" }
        if owner and not owner.answered then owner.holds[#owner.holds + 1] = dump.title(object) end
        if object.holder.id then owner.tasks:note_held(object.holder.id, dump.title(object)) end
    end
    object.waiting = waiting_on(object, by_slot)
    return object
end

local function objects_of(program, by_slot, pool_parts)
    local list, by_handle = {}, {}
    for _, seen in ipairs(program.view:objects()) do
        if not pool_parts[seen.place or ""] or seen.name or seen.owner then
            local object = show_object(seen, by_slot)
            object.index = seen.index
            list[#list + 1], by_handle[seen.handle] = object, object
        end
    end
    return list, by_handle
end

--- Queues with many items: by how much they grew since. The reader waits, not the program.
local function look_at_growth(program, objects)
    local before, from = {}, core.now()
    for _, object in ipairs(objects) do
        if (object.items or 0) >= MANY_ITEMS then before[#before + 1] = object end
    end
    if #before == 0 then return end
    core.sleep(BETWEEN)
    for _, object in ipairs(before) do
        local now = program.view:object(object.index)
        if now and now.handle == object.handle then
            object.grown, object.taken = now.depth - object.items, now.gets - object.gets & 0xffffffff
            object.grown_in = core.now() - from
        end
    end
end

-- ---- pools ----

local function pools_of(program, answered, by_pid)
    local list, by_control = {}, {}
    for _, pool in ipairs(answered) do by_control[pool.control] = pool end
    for _, seen in ipairs(program.view:pools()) do
        local object = program.view:object(seen.index)
        local pool = object and by_control[object.handle] or { workers = {}, told = false }
        local known = {}
        for _, w in ipairs(pool.workers) do known[w.pid or 0] = w end
        for _, w in ipairs(seen.workers) do
            if not known[w.pid] and by_pid[w.pid] then
                pool.workers[#pool.workers + 1] = {
                    pid = w.pid, name = by_pid[w.pid].name, state = w.runs and "busy" or "idle", tasks = w.items,
                    busy = w.busy, seconds = w.runs and w.seconds or nil,
                }
            end
        end
        for _, w in ipairs(pool.workers) do
            local process = by_pid[w.pid or 0]
            if process and w.state == "busy" then process.pool_task = { runs = w.runs, seconds = w.seconds } end
        end
        pool.name, pool.place, pool.control = seen.name and core.escaped(seen.name), seen.place, nil
        pool.told = pool.told == nil and true or pool.told
        list[#list + 1] = pool
    end
    return list
end

-- ---- the whole ----

local ADDRESS <const> = 0xffffffffffffff -- of a handle

local function count_of(n, word) return ("%d %s%s"):format(n, word, n == 1 and "" or "s") end

--- The state of an object, in words; nil: it has none to show.
---@return string?
function dump.state_of(object)
    local parts = {}
    if object.items then
        parts[1] = object.bound and ("%d of %d items"):format(object.items, object.bound)
            or count_of(object.items, "item")
    end
    if object.permits then parts[#parts + 1] = count_of(object.permits, "free permit") end
    if object.set ~= nil then parts[#parts + 1] = object.set and "set" or "not set" end
    if object.arrived then parts[#parts + 1] = ("%d of %d waiting"):format(object.arrived, object.bound) end
    if object.closed then parts[#parts + 1] = "closed" end
    if object.broken then parts[#parts + 1] = "broken" end
    if object.abandoned then parts[#parts + 1] = "its owner died" end
    return parts[1] and table.concat(parts, ", ")
end

--- "mp.Lock: 0x1937d482800002 'safe' (held by teller, pid 17126)"
local function object_text(handle, object)
    local name = object and object.name and (" '%s'"):format(object.name) or ""
    local holder = object and object.holder
    local state = holder and ("held by %s, pid %d"):format(core.escaped(holder.process), holder.pid)
        or object and dump.state_of(object)
    return ("mp.%s: 0x%x%s%s"):format(core.kind_of(handle) or "?", handle & ADDRESS, name,
        state and (" (%s)"):format(state) or "")
end

--- Groups refer to objects, places and tasks by numbers: in words too.
local function name_waits(program, process, by_slot, by_handle)
    for _, group in ipairs(process.tasks.groups) do
        local object = group.object and by_handle[group.object]
        local place = group.place and program.view:place(group.place)
        if group.object then group.waits_for = object_text(group.object, object) end
        if place then group.waits_for = ("%s made at %s"):format(group.waits_for, place) end
        group.object_title = object and dump.title(object) or nil
        local other = group.slot and by_slot[group.slot]
        if other then
            group.holder_is = person(other, group.holder == 0 and other.tasks.main or group.holder)
        end
    end
end

local function tidy(processes, objects)
    for _, process in ipairs(processes) do process.waiting = nil end
    for _, object in ipairs(objects) do object.handle, object.index = nil, nil end
end

local function time_text(seconds) return os.date("!%Y-%m-%dT%H:%M:%SZ", seconds // 1 | 0) end

--- The members of each group that one of these entries stands for.
local function members_of(entries)
    local by_group, processes = {}, {}
    for _, entry in ipairs(entries) do
        local process, group = table.unpack(alike[entry])
        by_group[group], processes[process] = {}, true
    end
    for process in pairs(processes) do
        process.tasks:each(function(id, group, seconds)
            local list = by_group[group]
            if list then
                list[#list + 1] = {
                    pid = process.pid, process = process.name, task = tasks.name(id, group), id = id, seconds = seconds,
                }
            end
        end)
    end
    return by_group
end

--- Replaces entries of several tasks that wait for an object by one for each of them.
function dump.spread(found)
    local entries = {}
    for _, object in ipairs(found.objects) do
        for _, entry in ipairs(object.waiting) do
            if alike[entry] then entries[#entries + 1] = entry end
        end
    end
    local by_group = members_of(entries)
    for _, object in ipairs(found.objects) do
        local list = {}
        for _, entry in ipairs(object.waiting) do
            local members = alike[entry] and by_group[alike[entry][2]] or { entry }
            table.move(members, 1, #members, #list + 1, list)
        end
        object.waiting = list
    end
    return found
end

--- The dump of a program: its processes are asked now.
---@param program mpengine.look.Program
function dump.of(program)
    program:refresh()
    local answers, answered_pools = program:ask "dump", {}
    local processes = processes_of(program, answers, answered_pools)
    local by_slot, by_pid = {}, {}
    for _, process in ipairs(processes) do
        by_slot[process.slot], by_pid[process.pid] = process, process
        process.waiting = waiting_groups(process)
    end
    local pools, pool_places = pools_of(program, answered_pools, by_pid), {}
    for _, pool in ipairs(pools) do pool_places[pool.place or "?"] = true end
    local objects, by_handle = objects_of(program, by_slot, pool_places)
    for _, process in ipairs(processes) do name_waits(program, process, by_slot, by_handle) end
    look_at_growth(program, objects)
    local info, now = program.info, core.wall_time()
    local result = {
        version = VERSION, time = time_text(now),
        program = {
            pid = program.pid, script = program.script, command = info.command, since = time_text(info.created),
            seconds = now - info.created, processes = #processes,
            main_ended = (program.main_ended or not by_pid[program.pid]) or nil,
            tasks = info.tasks, objects = info.objects, committed = info.committed, limit = info.limit,
        },
        processes = processes, objects = objects, pools = pools, census = program.view:census(),
        marks = marks.of(processes, objects, by_slot),
    }
    table.sort(result.census, function(a, b) return a.count > b.count end)
    tidy(processes, objects)
    return result
end

return dump
