--- A dump: all that is known of a program, as one table, whose fields docs/debugging.md lists. What
--- the processes answer is put together with what shared memory and /proc tell of them.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local answer = require "mpengine.look.answer"
local marks = require "mpengine.look.marks"
local proc = require "mpengine.look.proc"

local dump = {}

local VERSION <const> = 1        -- of the fields
local BETWEEN <const> = 0.1      -- seconds between two looks at queues that may only grow
local MANY_ITEMS <const> = 100   -- a queue with so many is looked at again

-- ---- processes and tasks ----

local function lines_of(text)
    local list = {}
    for line in (text or ""):gmatch("[^\n]+") do list[#list + 1] = (line:gsub("^%s+", "")) end
    return list
end

--- The texts of places and stacks are few: each is split once.
local function splitter()
    local known = {}
    return function(text)
        local list = known[text or ""]
        if not list then
            list = lines_of(text)
            known[text or ""] = list
        end
        return list
    end
end

local function add_tasks(process, piece, texts, split)
    for n, text in pairs(piece.texts or {}) do texts[n] = text end
    for _, task in ipairs(piece.tasks or {}) do
        task.stack, task.spawned = split(texts[task.stack]), split(task.spawned)
        process.tasks[#process.tasks + 1] = task
    end
end

--- Fills in what a process has answered; its pools go into the list.
local function take_answer(process, bytes, pools)
    local texts, split = {}, splitter()
    for _, piece in ipairs(answer.pieces_of(bytes)) do
        process.heap = process.heap or piece.heap
        process.running_for = process.running_for or piece.running_for
        process.supervisors = process.supervisors or piece.supervisors
        for _, pool in ipairs(piece.pools or {}) do
            pool.owner = process.pid
            pools[#pools + 1] = pool
        end
        add_tasks(process, piece, texts, split)
    end
    table.sort(process.tasks, function(a, b) return a.id < b.id end)
end

local WHY <const> = {
    stopped = "it is stopped", mute = "it does not answer readers", ended = "it has ended",
    silent = "it runs C code, or is blocked in the system",
}

local function state_of(process)
    for _, task in ipairs(process.tasks) do
        if task.state == "running" then return "running" end
    end
    if process.answered then return "waiting" end
    return process.kernel and process.kernel.word or "ended"
end

local function new_process(seen, program)
    local parent = seen.parent and program:process_of(seen.parent)
    return {
        pid = seen.pid, name = seen.name, slot = seen.slot, parent = parent and parent.pid, answered = false,
        task_count = seen.tasks, tasks = {}, holds = {}, waits = {},
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

local function person(process, task)
    return process and { pid = process.pid, process = process.name, task = task and task.name, id = task and task.id }
end

local function task_of(process, id)
    for _, task in ipairs(process and process.tasks or {}) do
        if task.id == id then return task end
    end
end

--- "mp.Lock 'till'": an object in words, without its state.
function dump.title(object)
    local name = object.name and (" '%s'"):format(object.name) or ""
    return ("mp.%s%s"):format(object.kind, name)
end

local function waiting_on(object, by_slot)
    local list = {}
    for _, slot in ipairs(object.waiting or {}) do
        local process, found = by_slot[slot], false
        for _, task in ipairs(process and process.tasks or {}) do
            if task.object == object.handle and task.state == "waiting" then
                local entry = person(process, task)
                entry.seconds, found = task.seconds, true
                list[#list + 1] = entry
            end
        end
        if process and not found then
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
        local task = task_of(owner, seen.owner_task)
        object.holder = person(owner, task) or { pid = 0, process = "?" }
        if owner and not owner.answered then owner.holds[#owner.holds + 1] = dump.title(object) end
        if owner and task then
            task.holds = task.holds or {}
            task.holds[#task.holds + 1] = dump.title(object)
        end
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

--- Tasks refer to other tasks by slot and number: in words too.
local function name_holders(processes, by_slot, by_handle)
    for _, process in ipairs(processes) do
        for _, task in ipairs(process.tasks) do
            local other = task.slot and by_slot[task.slot]
            if other then
                local holder = task.holder == 0 and other.tasks[1] or task_of(other, task.holder)
                task.holder_is = person(other, holder)
            end
            local object = by_handle[task.object or 0]
            task.object_name = object and dump.title(object) or nil
        end
    end
end

local function tidy(processes, objects)
    for _, process in ipairs(processes) do
        for _, task in ipairs(process.tasks) do
            task.object, task.holder, task.slot = task.object_name, task.holder_is, nil
            task.object_name, task.holder_is = nil, nil
        end
    end
    for _, object in ipairs(objects) do object.handle, object.index = nil, nil end
end

local function time_text(seconds) return os.date("!%Y-%m-%dT%H:%M:%SZ", seconds // 1 | 0) end

--- The dump of a program: its processes are asked now.
---@param program mpengine.look.Program
function dump.of(program)
    program:refresh()
    local answers, answered_pools = program:ask "dump", {}
    local processes = processes_of(program, answers, answered_pools)
    local by_slot, by_pid = {}, {}
    for _, process in ipairs(processes) do by_slot[process.slot], by_pid[process.pid] = process, process end
    local pools, pool_places = pools_of(program, answered_pools, by_pid), {}
    for _, pool in ipairs(pools) do pool_places[pool.place or "?"] = true end
    local objects, by_handle = objects_of(program, by_slot, pool_places)
    name_holders(processes, by_slot, by_handle)
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
