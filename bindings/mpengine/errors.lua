--- Error objects: what a failed task or a killed one leaves behind.
local errors = {}

local Error = { __name = "mp.error" }
Error.__index = Error

function Error:__tostring()
    local text = self.message
    if self.pid then text = ("%s\n(in the process with pid %d)"):format(text, self.pid) end
    if self.traceback then text = text .. "\n" .. self.traceback end
    return text
end

errors.Error = Error

--- What to show of any error value.
function errors.message(value)
    if type(value) == "string" or type(value) == "number" then return tostring(value) end
    local meta = getmetatable(value)
    if type(meta) == "table" and meta == Error then return value.message end
    if type(meta) == "table" and meta.__tostring then return tostring(value) end
    return ("(error object is a %s value)"):format(type(value))
end

--- errors.new{ kind =, message =, ... } -> error object
function errors.new(fields)
    return setmetatable(fields, Error)
end

function errors.is(value)
    return getmetatable(value) == Error
end

return errors
