--- mp.stats: the contents of the shared arena, for debugging.
local core = require "mpengine.core"

--- mp.stats() -> {
---   objects = { { kind, handle, holders, waiters, bytes, depth }, ... },
---   processes = { { pid, name, sleeping }, ... },
---   arena = { limit, committed, used } }  -- bytes
--- The totals read one word per block; the list of objects walks their contents, one object's lock
--- at a time.
local function stats()
    local arena, objects, processes = core.stats()
    return { arena = arena, objects = objects, processes = processes }
end

return { stats = stats }
