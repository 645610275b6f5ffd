--- The common part of the objects of mp.co: a metatable with a name, and the list that waits for any of
--- several objects are filed on, which is separate from the waiters that take something.
local core = require "mpengine.core"
local check = require "mpengine.check"

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
        watchers = core.waitlist(self)
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
        return class.title("mp.co." .. name, self, rawget(self, "name"), describe(self))
    end

    return meta, methods
end

--- The text of an object: "mp.co.Lock: 1 'till' (held)".
function class.title(kind, object, name, state)
    local named = name and (" '%s'"):format(core.escaped(name)) or ""
    return ("%s: %d%s (%s)"):format(kind, class.number_of(object), named, state)
end

local getmetatable = debug.getmetatable

--- The argument of a constructor, which may be a table of fields instead: the value of the field, and
--- the name.
function class.fields(call, fields, first)
    if type(first) ~= "table" or getmetatable(first) then return first end
    return check.fields(call, fields, first)
end

local NONE <const> = {}

--- The name in the table of fields that is the only argument of a constructor.
function class.name_in(call, opts)
    if type(opts) ~= "table" then return nil end
    return (check.fields(call, NONE, opts))
end

return class
