--- Reports misuse of patched functions at the line of the caller, with the name and the argument of
--- the call as written, whatever the functions underneath are called.
local core = require "mpengine.core"

local LIBRARY <const> = "^[^\n]-mpengine/monkey/%w+%.lua:%d+: "

-- Messages of a C function of the library underneath name our line that called it, and count the
-- object as an argument. Messages of our own code do neither.
local function in_terms_of(name, shift, message)
    local text, is_foreign = message:gsub(LIBRARY, "", 1)
    if is_foreign == 0 then return (text:gsub("^[^\n]-:%d+: ", "", 1)) end
    local n, what = text:match "^bad argument #(%d+) to '[^']*'(.*)$"
    if not n then return text end
    n = n - shift
    if n == 0 then return ("calling '%s' on bad self%s"):format(name, what) end
    return ("bad argument #%d to '%s'%s"):format(n, name, what)
end

-- Called in place of the patched function, so that its caller is at that level.
local function deliver(name, shift, level, ok, ...)
    if ok then
        core.did(...)
        return ...
    end
    local err = ...
    if type(err) ~= "string" then error(err, 0) end
    error(in_terms_of(name, shift, err), level)
end

local relay = {}

--- f under the name of a patched function.
function relay.call(name, f)
    return function(...) return deliver(name, 0, 2, core.call(f, ...)) end
end

--- f under the name of a patched method: its first argument is the object.
function relay.method(name, f)
    return function(...) return deliver(name, 1, 2, core.call(f, ...)) end
end

--- A method of a library for a C function of ours, which calls it with wrong arguments. A function that is no
--- method has no object before its arguments.
---@param name string
---@param f function
---@param shift? integer 0 for a function, 1 for a method
function relay.misused(name, f, shift)
    local function call(...)
        local a, b, c, d = f(...) -- no tail call: the message is to name this line
        return a, b, c, d
    end
    return function(...) return deliver(name, shift or 1, 3, core.call(call, ...)) end
end

return relay
