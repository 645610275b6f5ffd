--- mp.stats: the contents of the shared arena, for debugging.
local core = require "mpengine.core"

--- mp.stats() -> {
---   objects = { { kind, handle, holders, waiters, bytes, depth }, ... },
---   processes = { { pid, name, sleeping }, ... },
---   arena = { limit, committed, used },  -- bytes
---   supervisors = { { name, state, children }, ... } } -- of this process; children as status() has them
--- The totals read one word per block; the list of objects walks their contents, one object's lock
--- at a time.
local function stats()
    local arena, objects, processes = core.stats()
    local loaded = core.modules["mpengine.supervisor"]
    local supervisors = loaded and loaded.list() or {}
    return { arena = arena, objects = objects, processes = processes, supervisors = supervisors }
end

return { stats = stats }
