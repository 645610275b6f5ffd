--- Error objects: the outcome of a failed or killed task.
local core = require "mpengine.core"

local errors = {}

local Error = { __name = "mp.error" }
Error.__index = Error

-- An item of a map, in a few words.
local function describe(item)
    if type(item) == "string" then
        return string.format("%q", #item > 40 and string.sub(item, 1, 40) .. "..." or item)
    end
    return type(item) == "table" and "a table" or tostring(item)
end

function Error:__tostring()
    local text = tostring(self.message)
    if self.index then text = string.format("%s\n(item %s: %s)", text, self.index, describe(self.item)) end
    if self.pid then text = string.format("%s\n(in the process with pid %d)", text, self.pid) end
    if self.traceback then text = text .. "\n" .. self.traceback end
    return text
end

errors.Error = Error

--- The text to show for any error value.
function errors.message(value)
    if type(value) == "string" or type(value) == "number" then return tostring(value) end
    local meta = getmetatable(value)
    if type(meta) == "table" and meta == Error then return value.message end
    if type(meta) == "table" and meta.__tostring then return tostring(value) end
    return string.format("(error object is a %s value)", type(value))
end

local LIBRARY <const> = "=mpengine/" -- how the sources of the engine's own functions begin

--- True if this debug info describes a library function.
function errors.is_library(info)
    return string.sub(info.source, 1, #LIBRARY) == LIBRARY
end

--- The stack from `level` (1 is the caller) down to the script's first function. The engine's own
--- functions below that are left out, as lua leaves out its own. If `err` is an interrupt, the
--- engine's functions above are left out too.
---@type fun(level: integer, err: any): string
errors.stack = core.stack

--- The text, and the place where the error came from when a task raised it first.
function errors.with_origin(text, err)
    local origin = core.traceback_of(err)
    return origin and text .. "\nraised in a task:\n" .. origin or text
end

--- The message of an error and its stack, from the caller's `level` on.
---@param err any
---@param level? integer
---@return string
function errors.traceback(err, level)
    local text = errors.is(err) and err.traceback and tostring(err)
        or string.format("%s\n%s\n\t[C]: in ?", errors.message(err), errors.stack((level or 1) + 1, err))
    return errors.with_origin(text, err)
end

--- Calls f(...) with the message handler tell(err), which runs where the error is raised. Returns
--- true and the results, or false and the result of tell, or the message and its stack if that is
--- not a string. The error value itself is not changed meanwhile: load may catch it, or another C
--- function that keeps the handler in force.
function errors.call(tell, f, ...)
    local raised, text
    local function handler(err)
        raised, text = err, tell(err)
        if type(text) ~= "string" then text = errors.traceback(err, 2) end
        return err
    end
    local function finish(ok, ...)
        if ok then return true, ... end
        local err = ...
        if rawequal(err, raised) then return false, text end
        return false, tell(err)
    end
    return finish(xpcall(f, handler, ...))
end

--- Raises an error that was caught again when it cancels the task, or ends the program by a signal.
function errors.pass(err)
    core.check_cancelled()
    if core.signal_of(err) then error(err, 0) end
end

--- pcall for a call after which the caller goes on, unless its error is one to pass.
---@return boolean
---@return any ...
function errors.attempt(f, ...)
    local function finish(ok, ...)
        if not ok then errors.pass((...)) end
        return ok, ...
    end
    return finish(pcall(f, ...))
end

--- Raises an error at the script's function nearest to the caller, however deep in the engine the
--- error is detected: the library's own error function does so (lglobals.c).
function errors.raise(message) error(message) end

--- Calls f(...), and raises its error as one of the function at that level, without the original
--- position.
function errors.at(level, f, ...)
    local r = table.pack(pcall(f, ...))
    if r[1] then return table.unpack(r, 2, r.n) end
    local message = r[2]
    if type(message) == "string" then message = string.gsub(message, "^[^\n]-:%d+: ", "", 1) end
    error(message, level)
end

--- errors.new{ kind =, message =, ... } -> error object
function errors.new(fields)
    return setmetatable(fields, Error)
end

function errors.is(value)
    return getmetatable(value) == Error
end

return errors
