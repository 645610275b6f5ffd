--- The common part of the objects of mp.co: a metatable with a name, and the list on which
--- co.wait() files itself, which is separate from the waiters that take something.
local core = require "mpengine.core"

local class = {}

local numbers, last_number = setmetatable({}, { __mode = "k" }), 0

--- The number that identifies an object, assigned when it is first asked for.
function class.number_of(object)
    if not numbers[object] then
        last_number = last_number + 1
        numbers[object] = last_number
    end
    return numbers[object]
end

--- class.new("Lock", describe) -> metatable, methods
function class.new(name, describe)
    local methods = {}
    local meta = { __name = "mp.co." .. name, __index = methods, methods = methods }

    function meta.__tostring(self)
        return ("mp.co.%s: %d (%s)"):format(name, class.number_of(self), describe(self))
    end

    -- For co.wait and mp.wait: how to check whether it is ready, and what to wait for until then.
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
