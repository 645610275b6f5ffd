--- Messages about wrong arguments for calls that are written in Lua, in the form of lcheck.c: the
--- call as the manual names it ("Event:wait"), the argument, what was expected and what was given.
--- The error's place is the script's line nearest to the call, whatever functions are between
--- (lglobals.c).
local messages = require "mpengine.messages"

local check = {}

local rawget, type, getmetatable = rawget, type, debug.getmetatable

--- The name of a value's type in a message.
function check.kind(value)
    if value == nil then return "no value" end
    local meta = getmetatable(value)
    local name = type(meta) == "table" and rawget(meta, "__name")
    return type(name) == "string" and name or type(value)
end

--- The message for argument n of a call.
function check.message(call, n, expected, value)
    return string.format("bad argument #%d to '%s' (%s expected, got %s)", n, call, expected, check.kind(value))
end

--- Raises for argument n of a call.
function check.fail(call, n, expected, value)
    error(check.message(call, n, expected, value))
end

--- The same, where the expectation is a sentence.
function check.wrong(call, n, what)
    error(string.format("bad argument #%d to '%s' (%s)", n, call, what))
end

--- Raises for the object of a method.
function check.bad_self(call, expected, self)
    error(string.format("calling '%s' on bad self (%s expected, got %s)", call, expected,
        self == nil and "nil" or check.kind(self)))
end

--- Raises for a call at the wrong time, in the words of messages.lua.
function check.misuse(call, key)
    error(call .. ": " .. messages[key])
end

--- A timeout: nil, or a number of seconds that is not negative.
function check.timeout(call, n, value)
    if value == nil or (type(value) == "number" and value >= 0) then return end
    check.wrong(call, n, "timeout must be a number of seconds, 0 or more")
end

--- A value of a type, by the name that type() gives.
function check.type(call, n, value, expected)
    if type(value) ~= expected then check.fail(call, n, expected, value) end
end

--- True if it can be called.
function check.is_callable(value)
    local meta = getmetatable(value)
    return type(value) == "function" or type(meta) == "table" and rawget(meta, "__call") ~= nil
end

--- A function, or an object that can be called as one.
function check.callable(call, n, value)
    if not check.is_callable(value) then check.fail(call, n, "function", value) end
end

--- True for a number above 0, which NaN is not.
function check.is_positive(value) return type(value) == "number" and value > 0 end

--- Seconds to wait: a number that is not negative.
function check.seconds(call, n, value)
    if type(value) == "number" and value >= 0 then return end
    check.wrong(call, n, "seconds must be a number, 0 or more")
end

--- A count: nil, or an integer of at least `least`, and at most `most` when given.
function check.count(call, n, value, least, what, most)
    if value == nil then return end
    if math.type(value) == "integer" and value >= least and (not most or value <= most) then return end
    local range = most and (" from %d to %d"):format(least, most) or (", %d or more"):format(least)
    check.wrong(call, n, ("%s must be an integer%s, got %s"):format(what, range, tostring(value)))
end

--- The arguments of a constructor that takes one table of fields instead, the name among them: the
--- values of the fields, in their order, and the name.
function check.fields(call, fields, first, ...)
    if type(first) ~= "table" or getmetatable(first) then
        local given = table.pack(first, ...)
        return table.unpack(given, 1, #fields)
    end
    local values, n = {}, #fields + 1
    for key, value in pairs(first) do
        local at = key == "name" and n
        for i, field in ipairs(fields) do at = at or field == key and i end
        if not at then
            local known = table.concat(fields, ", ") .. (n > 1 and ", name" or "name")
            error(("%s: unknown field '%s' (%s expected)"):format(call, tostring(key), known))
        end
        values[at] = value
    end
    if values[n] ~= nil and type(values[n]) ~= "string" then
        error(("%s: field 'name': a string expected, got %s"):format(call, check.kind(values[n])))
    end
    return table.unpack(values, 1, n)
end

--- Raises for the first field of a table that is unknown, or whose value is refused: known has for each a
--- function that accepts a value, and what was expected.
---@param call string
---@param t table
---@param known table<string, { [1]: fun(v: any): any, [2]: string }>
function check.settings(call, t, known)
    for name, value in pairs(t) do
        local field = known[name]
        if not field then error(("%s: unknown field '%s'"):format(call, tostring(name))) end
        if not field[1](value) then
            error(("%s: field '%s' must be %s, got %s"):format(call, name, field[2],
                type(value) == "number" and tostring(value) or check.kind(value)))
        end
    end
end

return check
