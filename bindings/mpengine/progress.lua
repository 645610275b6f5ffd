--- mp.progress: the progress of a for loop, over a list or an iterator.
local check = require "mpengine.check"
local progress = require "mpengine.pool.progress"
local source = require "mpengine.pool.source"

local loops = {}

local known = {
    total = { function(v) return math.type(v) == "integer" and v >= 0 end, "an integer, 0 or more" },
    label = { function(v) return type(v) == "string" end, "a string" },
}

local Loop = {}

function Loop.__close(self)
    progress.finish(self.progress)
    if self.items.step then source.close(self.items) end
end

-- The values of the next item, after the one before has been counted.
local function next_item(self)
    if self.has_begun then progress.add(self.progress, 1, 0) end
    self.has_begun = true
    local found, item = self.items:next()
    if not found then
        progress.finish(self.progress)
        return nil
    end
    if self.items.spread then return table.unpack(item, 1, item.n) end
    return item
end

--- The values of a for loop. items: a list, a shared list or array, or an iterator with its other values.
---@param items any
function loops.progress(items, ...)
    if not source.is_one(items) then check.fail("progress", 1, "table, shared list or iterator", items) end
    local from, options = source.of("progress", items, ...)
    if options == nil then options = {} end
    check.type("progress", 2, options, "table")
    check.settings("progress", options, known)
    local self = { items = from, progress = progress.new(true, options.total or from.total, options.label, true) }
    setmetatable(self, Loop)
    return function() return next_item(self) end, nil, nil, self
end

return loops
