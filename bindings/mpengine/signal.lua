--- mp.signal: handlers of signals, run as tasks.
local core = require "mpengine.core"
local check = require "mpengine.check"
local hooks = require "mpengine.hooks"

local signal = {}

local handlers = {} -- number -> the handler given by the script

function hooks.signal(number, at_once)
    local handler = handlers[number]
    if type(handler) ~= "function" then return end
    local start = at_once and core.run_now or core.spawn
    start(handler, number)
end

--- Runs f as a task each time the signal arrives (several that arrive at once may count as one).
--- While Lua code computes, f runs between two of its instructions, until f waits. "default" and
--- "ignore" set the default action or ignore the signal. A child starts with the default.
---@param name string|integer "TERM", "SIGTERM" or 15
---@param handler fun(number: integer)|"default"|"ignore"|nil nil: "default"
---@return function|string before what was in force
function signal.signal(name, handler)
    if type(name) ~= "string" and math.type(name) ~= "integer" then
        check.fail("signal", 1, "name or number of a signal", name)
    end
    local number = core.signal_number(name)
    if not number then
        check.wrong("signal", 1, ("name or number of a signal expected, got '%s'"):format(name))
    end
    if handler == nil then handler = "default" end
    if type(handler) ~= "function" and handler ~= "default" and handler ~= "ignore" then
        check.fail("signal", 2, "function, 'default' or 'ignore'", handler)
    end
    require "mpengine.co.tasks" -- which reports errors of tasks
    local ok, why = core.catch_signal(number, type(handler) == "function" and "task" or handler)
    if not ok then error(("signal: signal '%s' cannot be handled (%s)"):format(name, why), 2) end
    local before = handlers[number] or "default"
    handlers[number] = handler
    return before
end

return signal
