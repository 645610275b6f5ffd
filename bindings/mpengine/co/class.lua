--- The common part of the objects of mp.co: a metatable with a name, and the list that waits for any of
--- several objects are filed on, which is separate from the waiters that take something.
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

--- What is waited for until __ready(object): the source of waitable.lua.
local function watchers_of(self)
    local watchers = self.watchers
    if not watchers then
        watchers = core.waitlist()
        self.watchers = watchers
    end
    return watchers
end

--- class.new("Lock", describe) -> metatable, methods; the caller adds __ready.
function class.new(name, describe)
    local methods = {}
    local meta = {
        __name = "mp.co." .. name, __index = methods, methods = methods, __wait_source = watchers_of,
    }

    function meta.__tostring(self)
        return ("mp.co.%s: %d (%s)"):format(name, class.number_of(self), describe(self))
    end

    return meta, methods
end

return class
