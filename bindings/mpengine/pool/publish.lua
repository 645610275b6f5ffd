--- What is sent once: functions and shared values lie in a shared dict under a number, and a task
--- names the number. Equal bytes have the same one.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local publish = {}

local KEPT_MAX = 256

local constant = { ["nil"] = true, boolean = true, number = true, string = true }

--- The upvalues of a function, if it can be seen from them whether it is still the same: a list of
--- scalars, in which the globals are true. nil when it has others.
local function upvalues_of(f)
    local list, i = { n = 0 }, 1
    while true do
        local name, value = debug.getupvalue(f, i)
        if not name then return list end
        if value == _G then
            value = publish -- stands for them
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

--- What a pool remembers.
function publish.new()
    return { by_bytes = {}, by_function = setmetatable({}, { __mode = "k" }), count = 0, next_id = 1 }
end

local function number_of(pool, call, what, value)
    local known = pool.published
    local ok, bytes = pcall(core.encode_value, call, what, value)
    if not ok then errors.raise(bytes) end
    local id = known.by_bytes[bytes]
    if id then return id end
    if known.count >= KEPT_MAX and pool.outstanding == 0 and pool.first_job > pool.last_job then
        pool.published = publish.new()
        pool.published.next_id = known.next_id
        known = pool.published
        pool.functions:clear()
    end
    id = known.next_id
    known.next_id = id + 1
    pool.functions:set(id, value)
    known.by_bytes[bytes] = id
    known.count = known.count + 1
    return id
end

--- The number of a function, published when it is not known.
function publish.func(pool, call, f)
    local entry = pool.published.by_function[f]
    if entry and (entry.upvalues.n == 0 or is_same(f, entry.upvalues)) then return entry.id end
    local id = number_of(pool, call, "function", f)
    local upvalues = upvalues_of(f)
    pool.published.by_function[f] = upvalues and { id = id, upvalues = upvalues }
    return id
end

--- The number of a shared value; 0 for none.
function publish.value(pool, call, value)
    if value == nil then return 0 end
    return number_of(pool, call, "shared", value)
end

return publish
