--- What can be waited for: the one protocol of processes, shared objects, results, tasks and the objects
--- of mp.co. An object says by two fields of its metatable, set where its type is made:
---
---   __ready(object) -> boolean
---       Would a try succeed now? Takes nothing and does not wait.
---   __wait_source(object) -> source | nil, why
---       What a waiter is filed on until then: a shared object, waitlist, task, child or descriptor, as
---       core.file_any takes it. Absent: the object itself. nil and a sentence: it cannot be waited for.
---
--- A waiter is filed on all sources, then each object is asked once more, and only then the task blocks;
--- so a change between the first question and the filing is not missed. A wake-up that the wait does not
--- use goes to the next waiter of the source (waiter.c).
local core = require "mpengine.core"
local check = require "mpengine.check"

local waitable = {}

local EXPECTED <const> = "a process, lock, semaphore, event, queue, pipe end, result or task expected, got "

--- The question and the source of element i of the list that a call was given.
local function parts_of(call, i, object)
    local meta = debug.getmetatable(object)
    meta = type(meta) == "table" and meta or {}
    local ready, source_of, source, why = rawget(meta, "__ready"), rawget(meta, "__wait_source"), object, nil
    if source_of then
        source, why = source_of(object)
    elseif not ready then
        source, why = nil, EXPECTED .. check.kind(object)
    end
    if not source then error(("%s: list[%d] cannot be waited for: %s"):format(call, i, why)) end
    return ready, source
end

--- The elements of a list: objects, their questions and sources side by side, n of them.
function waitable.set(call, list)
    check.type(call, 1, list, "table")
    local objects, ready, sources, n = {}, {}, {}, #list
    for i = 1, n do
        objects[i] = list[i]
        ready[i], sources[i] = parts_of(call, i, list[i])
    end
    return { n = n, objects = objects, ready = ready, sources = sources }
end

--- Those that are ready, in their order; all of them stay in the set.
function waitable.ready(set)
    local found, objects, ready = {}, set.objects, set.ready
    for i = 1, set.n do
        if ready[i](objects[i]) then found[#found + 1] = objects[i] end
    end
    return found
end

--- Moves those that are ready to the list of found ones, up to a limit.
function waitable.take_ready(set, found, limit)
    local objects, ready, sources, n = set.objects, set.ready, set.sources, 0
    for i = 1, set.n do
        local object = objects[i]
        if #found < limit and ready[i](object) then
            found[#found + 1] = object
        else
            n = n + 1
            objects[n], ready[n], sources[n] = object, ready[i], sources[i]
        end
    end
    for i = n + 1, set.n do objects[i], ready[i], sources[i] = nil, nil, nil end
    set.n = n
end

--- Waits until one of them may be ready: true, or nil, "timeout".
function waitable.wait_any(set, deadline)
    local filed <close> = core.file_any(set.sources)
    for i = 1, set.n do
        if set.ready[i](set.objects[i]) then return true end
    end
    return core.wait_any(filed, deadline and math.max(0, deadline - core.now()))
end

return waitable
