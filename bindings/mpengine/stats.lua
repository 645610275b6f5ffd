--- mp.stats, mp.dump, mp.metrics: the program, looked at from inside.
local core = require "mpengine.core"

--- mp.stats() -> {
---   objects = { { kind, handle, holders, waiters, bytes, depth, name, place }, ... },
---                          -- and of a Cache its stats() in cache
---   processes = { { pid, name, sleeping }, ... },
---   arena = { limit, committed, used },  -- bytes
---   supervisors = { { name, state, children }, ... } } -- of this process; children as status() has them
--- The totals read one word per block; the list of objects walks their contents, one object's lock
--- at a time.
local function stats()
    local arena, objects, processes = core.stats()
    local view <close> = core.view()
    local labels = {}
    for _, seen in ipairs(view:objects(true)) do labels[seen.handle] = seen end
    for _, object in ipairs(objects) do
        local seen = labels[object.handle]
        if seen then object.name, object.place = seen.name, seen.place end
        if object.kind == "Cache" then object.cache = core.cache_stats(object.handle) end
    end
    local loaded = core.modules["mpengine.supervisor"]
    local supervisors = loaded and loaded.list() or {}
    return { arena = arena, objects = objects, processes = processes, supervisors = supervisors }
end

--- mp.dump() -> what `mpengine dump` prints of this program. Other tasks go on meanwhile.
local function dump()
    local program <close> = assert(require("mpengine.look").program())
    return require("mpengine.look.text").dump(require("mpengine.look.dump").of(program))
end

--- mp.metrics() -> numbers in the text format of Prometheus
local function metrics() return require("mpengine.look.metrics")() end

return { stats = stats, dump = dump, metrics = metrics }
