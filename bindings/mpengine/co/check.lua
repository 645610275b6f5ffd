--- Checked arguments of the functions of mp.co.
local check = {}

---@param call string  the function's name
---@param index integer  the argument's position
---@param expected string  a type
function check.type(call, index, value, expected)
    if type(value) ~= expected then
        error(("bad argument #%d to '%s' (%s expected, got %s)"):format(index, call, expected,
            value == nil and "no value" or type(value)), 3)
    end
end

function check.timeout(call, index, value)
    if value ~= nil and not (type(value) == "number" and value >= 0) then
        error(("bad argument #%d to '%s' (timeout must be a number of seconds, 0 or more)"):format(index, call), 3)
    end
end

function check.seconds(call, index, value)
    if not (type(value) == "number" and value >= 0) then
        error(("bad argument #%d to '%s' (seconds must be a number, 0 or more)"):format(index, call), 3)
    end
end

--- A count: nil or an integer from `least` on.
function check.count(call, index, value, least, what)
    if value ~= nil and not (math.type(value) == "integer" and value >= least) then
        error(("bad argument #%d to '%s' (%s must be an integer, %d or more)"):format(index, call, what, least), 3)
    end
end

return check
