--- Checked arguments for calls written in Lua: messages that name the call, the argument and what
--- was expected, as luaL_argerror's do.
local check = {}

local function describe(value)
    if value == nil then return "no value" end
    local meta = debug.getmetatable(value)
    return type(meta) == "table" and rawget(meta, "__name") or type(value)
end

--- What is said of argument n of a call.
function check.message(call, n, expected, value)
    return string.format("bad argument #%d to '%s' (%s expected, got %s)", n, call, expected, describe(value))
end

--- Raises for argument n of a call; level as for error, counted from the caller of this function.
function check.fail(call, n, expected, value, level)
    error(check.message(call, n, expected, value), (level or 2) + 1)
end

--- A timeout: nil, or a number of seconds that is not negative.
function check.timeout(call, n, value, level)
    if value == nil or (type(value) == "number" and value >= 0) then return end
    error(string.format("bad argument #%d to '%s' (timeout must be a number of seconds, 0 or more)", n, call),
        (level or 2) + 1)
end

--- A value of a type, by the name that type() gives.
function check.type(call, n, value, expected, level)
    if type(value) ~= expected then check.fail(call, n, expected, value, (level or 2) + 1) end
end

--- Seconds to wait: a number that is not negative.
function check.seconds(call, n, value, level)
    if type(value) == "number" and value >= 0 then return end
    error(string.format("bad argument #%d to '%s' (seconds must be a number, 0 or more)", n, call), (level or 2) + 1)
end

--- A count: nil, or an integer from least on.
function check.count(call, n, value, least, what)
    if value == nil or (math.type(value) == "integer" and value >= least) then return end
    error(string.format("bad argument #%d to '%s' (%s must be an integer, %d or more)", n, call, what, least), 3)
end

return check
