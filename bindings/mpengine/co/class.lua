--- What the objects of mp.co have in common: a metatable with a name, and the list that co.wait()
--- files itself on, which is apart from those who take something.
local core = require "mpengine.core"

local next_number = 0

--- class.new("Lock") -> metatable, methods
local function class(name, describe)
    local methods = {}
    local meta = { __name = "mp.co." .. name, __index = methods, methods = methods }

    function meta.__tostring(self)
        if not self.number then
            next_number = next_number + 1
            self.number = next_number
        end
        return ("mp.co.%s: %d (%s)"):format(name, self.number, describe(self))
    end

    -- For co.wait and mp.wait: how to see whether it is ready, and what to wait for meanwhile.
    function meta.__wait_source(self)
        local watchers = self.watchers
        if not watchers then
            watchers = core.waitlist()
            self.watchers = watchers
        end
        return function() return meta.__ready(self) end, watchers
    end

    return meta, methods
end

return class
