--- mp.stats: the contents of the shared arena, for debugging.
local core = require "mpengine.core"

local kinds = {
    "Lock", "RLock", "Semaphore", "Event", "Condition", "Barrier", "Queue", "Array", "Dict", "List", "Pipe",
    "Value", "RawArray", "RawValue", "Pipe", "Blob",
    "JoinableQueue", "BoundedSemaphore",
}

--- mp.stats() -> {
---   objects = { { kind, handle, holders, waiters, bytes, depth }, ... },
---   processes = { { pid, name, sleeping }, ... },
---   arena = { limit, committed, used } }  -- bytes
--- The totals read one word per block; the list of objects walks their contents, one object's lock
--- at a time.
local function stats()
    local arena, objects, processes = core.stats()
    for _, object in ipairs(objects) do object.kind = kinds[object.kind] end
    return { arena = arena, objects = objects, processes = processes }
end

return { stats = stats }
