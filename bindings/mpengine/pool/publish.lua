--- Values that are sent once: functions and shared values are stored in a shared dict under a
--- number, and a task contains the number. Equal bytes have the same number. Values that no job
--- uses any more are kept for later calls, as long as they are few. A value with shared objects has
--- an odd number; workers keep such values only while they are busy.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local publish = {}

local KEPT_MAX = 256          -- values that no job uses
local KEPT_BYTES = 4 << 20    -- and their bytes
local OBJECT_BYTES = 1 << 20  -- added for a value with shared objects, which it keeps alive
local OBJECT_SECONDS = 0.1    -- after which an unused value of that kind is dropped

local constant = { ["nil"] = true, boolean = true, number = true, string = true }

--- The upvalues of a function, if they show whether it is still the same: a list of scalars, in
--- which the globals are true. nil when it has other upvalues.
local function upvalues_of(f)
    local list, i = { n = 0 }, 1
    while true do
        local name, value = debug.getupvalue(f, i)
        if not name then return list end
        if value == _G then
            value = publish -- stands for the globals
        elseif not constant[type(value)] then
            return nil
        end
        list[i], list.n = value, i
        i = i + 1
    end
end

local function is_same(f, list)
    for i = 1, list.n do
        local _, value = debug.getupvalue(f, i)
        local kept = list[i]
        if not (rawequal(value, kept) and math.type(value) == math.type(kept))
            and not (kept == publish and value == _G) then
            return false
        end
    end
    return true
end

--- The state of a pool's published values: entries by the bytes of their value, and by function.
--- count and bytes cover all entries; at the limits they are examined.
function publish.new()
    return {
        by_bytes = {}, names = {}, by_function = setmetatable({}, { __mode = "k" }),
        streams = setmetatable({}, { __mode = "k" }),
        count = 0, bytes = 0, objects = 0, count_limit = KEPT_MAX, bytes_limit = KEPT_BYTES,
        next_number = 1, clock = 0, generation = 0,
    }
end

-- ---- kept values ----

--- The numbers used by jobs that have not ended.
local function numbers_in_use(pool, pinned)
    local used = { [pinned] = true }
    local function add(job)
        used[job.f_id], used[job.shared_id] = true, true
    end
    for _, job in pairs(pool.jobs) do add(job) end
    for _, task in ipairs(pool.tasks) do
        if task.job then add(task.job) end
    end
    for job in pairs(pool.published.streams) do add(job) end
    return used
end

local function drop(pool, entry)
    local known = pool.published
    known.by_bytes[entry.bytes], known.names[entry.id] = nil, nil
    known.count, known.bytes = known.count - 1, known.bytes - entry.weight
    known.objects = known.objects - entry.id % 2
    entry.bytes, entry.dropped = nil, true
    pool.functions:set(entry.id, nil)
end

--- Drops values that no job uses, the longest unused first, until half of the limits is left.
--- Workers notice by the generation, which is stored under the number 0.
local function trim(pool, pinned)
    local known, used, idle = pool.published, numbers_in_use(pool, pinned), {}
    for _, entry in pairs(known.by_bytes) do
        if not used[entry.id] then idle[#idle + 1] = entry end
    end
    table.sort(idle, function(a, b) return a.used > b.used end)
    local weight = 0
    for i, entry in ipairs(idle) do
        weight = weight + entry.weight
        if i > KEPT_MAX // 2 or weight > KEPT_BYTES // 2 then drop(pool, entry) end
    end
    known.generation = known.generation + 1
    pool.functions:set(0, known.generation)
    known.count_limit = math.max(KEPT_MAX, 2 * known.count)
    known.bytes_limit = math.max(KEPT_BYTES, 2 * known.bytes)
end

--- Drops the values with shared objects that no job and no call since then uses. Returns whether
--- later ones exist.
local function drop_objects(pool, since)
    local used, later, dropped = numbers_in_use(pool, 0), false, false
    for _, entry in pairs(pool.published.by_bytes) do
        if entry.id % 2 == 1 and not used[entry.id] then
            if entry.used <= since then drop(pool, entry) end
            dropped, later = dropped or entry.dropped, later or not entry.dropped
        end
    end
    if dropped then core.pool_sweep(pool.inbox) end
    return later
end

--- The pool is idle: drops the values with shared objects that are not used again soon, so that
--- memory is freed and pipe ends are closed.
function publish.tidy(pool)
    local known = pool.published
    if known.objects == 0 or known.tidying then return end
    known.tidying = true
    core.spawn(function()
        local since = known.clock
        core.sleep(OBJECT_SECONDS)
        known.tidying = false
        if pool.terminated then return end
        if drop_objects(pool, since) and pool.outstanding == 0 then publish.tidy(pool) end
    end)
end

--- The entry of a value, published when it is new. pinned: a number that its call uses as well.
local function entry_of(pool, call, what, value, pinned)
    local known = pool.published
    local ok, bytes, has_objects = pcall(core.encode_value, call, what, value)
    if not ok then errors.raise(bytes) end
    local entry = known.by_bytes[bytes]
    if entry then return entry end
    local weight = #bytes + (has_objects and OBJECT_BYTES or 0)
    if known.count >= known.count_limit or known.bytes + weight > known.bytes_limit then trim(pool, pinned) end
    entry = { id = 2 * known.next_number + (has_objects and 1 or 0), bytes = bytes, weight = weight }
    known.next_number = known.next_number + 1
    pool.functions:set(entry.id, value)
    known.by_bytes[bytes] = entry
    known.count, known.bytes = known.count + 1, known.bytes + weight
    known.objects = known.objects + entry.id % 2
    return entry
end

local function use(pool, entry)
    local known = pool.published
    known.clock = known.clock + 1
    entry.used = known.clock
    return entry.id
end

--- The number of a function, published when it is new. shared_id: of the shared value of its call.
function publish.func(pool, call, f, shared_id)
    local seen = pool.published.by_function[f]
    if seen and not seen.entry.dropped and (seen.upvalues.n == 0 or is_same(f, seen.upvalues)) then
        return use(pool, seen.entry)
    end
    local entry = entry_of(pool, call, "function", f, shared_id or 0)
    local names = pool.published.names -- for readers
    names[entry.id] = names[entry.id] or core.function_name(f)
    local upvalues = upvalues_of(f)
    pool.published.by_function[f] = upvalues and { entry = entry, upvalues = upvalues }
    return use(pool, entry)
end

--- The number of a shared value; 0 for none.
function publish.value(pool, call, value)
    if value == nil then return 0 end
    return use(pool, entry_of(pool, call, "shared", value, 0))
end

return publish
