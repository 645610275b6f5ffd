--- mp.metrics: numbers of the program in the text format of Prometheus, from shared memory and /proc: no
--- process is asked. Objects with the same kind, name and place count as one.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local look = require "mpengine.look"
local proc = require "mpengine.look.proc"

-- Name, type, help; in the order in which they are shown.
local FAMILIES <const> = {
    { "mpengine_processes", "gauge", "Processes of the program." },
    { "mpengine_start_time_seconds", "gauge", "When the program began, since 1970." },
    { "mpengine_shared_memory_bytes", "gauge", "Shared memory taken from the system." },
    { "mpengine_shared_memory_limit_bytes", "gauge", "The most that it may become." },
    { "mpengine_tasks", "gauge", "Tasks that have not ended, the main one included." },
    { "mpengine_process_cpu_seconds_total", "counter", "Processor time of a process." },
    { "mpengine_process_memory_bytes", "gauge", "Resident memory of a process." },
    { "mpengine_lua_heap_bytes", "gauge", "Memory of Lua in the process that was asked." },
    { "mpengine_objects", "gauge", "Shared objects." },
    { "mpengine_queue_items", "gauge", "Items in a queue." },
    { "mpengine_queue_puts_total", "counter", "Items put into a queue, modulo 2^32." },
    { "mpengine_queue_gets_total", "counter", "Items taken from a queue, modulo 2^32." },
    { "mpengine_locks_held", "gauge", "Locks that are held." },
    { "mpengine_limiter_tokens", "gauge", "Whole tokens that a rate limiter has." },
    { "mpengine_waiting_processes", "gauge", "Processes with a task that waits for an object." },
    { "mpengine_pool_workers", "gauge", "Workers of a pool that have started." },
    { "mpengine_pool_busy_workers", "gauge", "Those that run a task." },
    { "mpengine_pool_tasks_total", "counter", "Items that the workers that live have run." },
    { "mpengine_pool_busy_seconds_total", "counter", "The time they took." },
    { "mpengine_supervised_running", "gauge", "Whether a child of a supervisor runs, in the process that was asked." },
    { "mpengine_supervised_restarts_total", "counter", "How often it was started again." },
}

local function label(value)
    return '"' .. (core.escaped(value):gsub('[\\"]', "\\%0")) .. '"'
end

local function labels_of(labels)
    local parts = {}
    for i = 1, labels.n, 2 do
        if labels[i + 1] then parts[#parts + 1] = labels[i] .. "=" .. label(tostring(labels[i + 1])) end
    end
    return #parts > 0 and "{" .. table.concat(parts, ",") .. "}" or ""
end

--- Samples by family and labels; those with equal labels are added.
local function new_samples()
    local families = {}
    return families, function(family, value, ...)
        local of, key = families[family] or { order = {} }, labels_of(table.pack(...))
        families[family] = of
        if not of[key] then of.order[#of.order + 1] = key end
        of[key] = (of[key] or 0) + value
    end
end

local function add_processes(add, program)
    local info = program.info
    add("mpengine_processes", info.processes)
    add("mpengine_start_time_seconds", info.created)
    add("mpengine_shared_memory_bytes", info.committed)
    add("mpengine_shared_memory_limit_bytes", info.limit)
    for _, process in ipairs(program.processes) do
        local kernel = proc.state(process.pid)
        add("mpengine_tasks", process.tasks, "process", process.name, "pid", process.pid)
        if kernel then
            add("mpengine_process_cpu_seconds_total", kernel.cpu, "process", process.name, "pid", process.pid)
            add("mpengine_process_memory_bytes", kernel.memory, "process", process.name, "pid", process.pid)
        end
    end
    add("mpengine_lua_heap_bytes", collectgarbage("count") * 1024, "process", core.process_name(), "pid", core.pid())
end

local function add_objects(add, program)
    for _, c in ipairs(program.view:census()) do add("mpengine_objects", c.count, "kind", c.kind) end
    for _, object in ipairs(program.view:objects(true)) do
        local function add_of(family, value)
            add(family, value, "kind", object.kind, "name", object.name, "place", object.place)
        end
        if object.kind:find "Queue" then
            add_of("mpengine_queue_items", object.depth)
            add_of("mpengine_queue_puts_total", object.puts)
            add_of("mpengine_queue_gets_total", object.gets)
        end
        if object.owner then add_of("mpengine_locks_held", 1) end
        if object.waiting then add_of("mpengine_waiting_processes", #object.waiting) end
    end
end

local function add_pools(add, program)
    for _, pool in ipairs(program.view:pools()) do
        local labels = { "pool", pool.name, "place", pool.place }
        add("mpengine_pool_workers", #pool.workers, table.unpack(labels, 1, 4))
        for _, w in ipairs(pool.workers) do
            add("mpengine_pool_busy_workers", w.runs and 1 or 0, table.unpack(labels, 1, 4))
            add("mpengine_pool_tasks_total", w.items, table.unpack(labels, 1, 4))
            add("mpengine_pool_busy_seconds_total", w.busy, table.unpack(labels, 1, 4))
        end
    end
end

local function add_limiters(add)
    for _, object in ipairs(require("mpengine.stats").stats().objects) do
        if object.kind == "RateLimiter" then
            add("mpengine_limiter_tokens", object.depth, "name", object.name, "place", object.place)
        end
    end
end

local function add_supervisors(add)
    local loaded = core.modules["mpengine.supervisor"]
    for _, supervisor in ipairs(loaded and loaded.list() or {}) do
        local names = {}
        for name in pairs(supervisor.children) do names[#names + 1] = name end
        table.sort(names)
        for _, name in ipairs(names) do
            local child = supervisor.children[name]
            add("mpengine_supervised_running", child.state == "running" and 1 or 0, "supervisor", supervisor.name,
                "child", name)
            add("mpengine_supervised_restarts_total", child.restarts, "supervisor", supervisor.name, "child", name)
        end
    end
end

local function number(value)
    return math.type(value) == "integer" and tostring(value) or ("%.10g"):format(value)
end

--- mp.metrics() -> text
return function()
    local program <close> = assert(look.program())
    local families, add = new_samples()
    add_processes(add, program)
    add_objects(add, program)
    add_pools(add, program)
    add_limiters(add)
    add_supervisors(add)
    local out = {}
    for _, family in ipairs(FAMILIES) do
        local name, kind, help = table.unpack(family)
        local samples = families[name]
        if samples then
            out[#out + 1] = ("# HELP %s %s\n# TYPE %s %s"):format(name, help, name, kind)
            for _, key in ipairs(samples.order) do out[#out + 1] = name .. key .. " " .. number(samples[key]) end
        end
    end
    return table.concat(out, "\n") .. "\n"
end
