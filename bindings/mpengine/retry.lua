--- mp.retry: calls a function again when it raises, after pauses that grow.
---
--- The last call is not protected, so its error has the traceback of an ordinary call. A cancellation
--- of the task, and a signal that ends the program, pass through at once, whatever `on` says.
local core = require "mpengine.core"
local check = require "mpengine.check"
local errors = require "mpengine.errors"
local restart = require "mpengine.restart"

local retry = {}

local TIMES, FIRST, MOST, JITTER <const> = 3, 0.1, 30, 0.25

-- Not what an infinite time would be, for the pauses are added to the clock.
local function is_pause(v) return type(v) == "number" and v >= 0 and v < math.huge end

local function is_backoff(v)
    if type(v) ~= "table" then return is_pause(v) end
    return #v == 2 and is_pause(v[1]) and is_pause(v[2]) and v[1] <= v[2]
end

local function is_times(v) return v == math.huge or (math.type(v) == "integer" and v >= 1) end

local function is_on(v)
    if type(v) == "string" or check.is_callable(v) then return true end
    if type(v) ~= "table" or #v == 0 then return false end
    for _, kind in ipairs(v) do
        if type(kind) ~= "string" then return false end
    end
    return true
end

local known = {
    times = { is_times, "an integer, 1 or more, or math.huge" },
    backoff = { is_backoff, "seconds, or a list of two numbers of seconds, the first and the longest pause" },
    jitter = { function(v) return type(v) == "number" and v >= 0 and v <= 1 end, "a number from 0 to 1" },
    on = { is_on, "a function, a kind of error or a list of kinds" },
}

-- The kind of an error as a pool has it: that of the object, and "error" for anything else that was raised.
local function kind_of(err)
    local kind = errors.is(err) and err.kind
    return kind or "error"
end

--- Is this error one to call again for?
local function chooser(on)
    if on == nil then return function() return true end end
    if check.is_callable(on) then return on end
    local kinds = {}
    for _, kind in ipairs(type(on) == "string" and { on } or on) do kinds[kind] = true end
    return function(err) return kinds[kind_of(err)] end
end

local function must_pass(err)
    core.check_cancelled() -- raises what cancels the task
    return core.signal_of(err) or kind_of(err) == "killed"
end

--- Returns only when f is to be called again; raises its error otherwise.
local function consider(again, pauses, attempt, ok, ...)
    if ok then return true, ... end
    local err = ...
    if must_pass(err) or not again(err, attempt) then error(err, 0) end
    core.sleep(pauses:take())
    return false
end

local function call(f, again, pauses, times, attempt)
    if attempt >= times then return f() end
    local function finish(done, ...)
        if done then return ... end
        return call(f, again, pauses, times, attempt + 1)
    end
    return finish(consider(again, pauses, attempt, core.call(f)))
end

--- Returns the results of f(); calls it again after an error, `times` calls at most, and raises the
--- last error. Suspends only the task during the pauses.
---@param f function
---@param options? mpengine.RetryOptions
function retry.retry(f, options)
    check.callable("retry", 1, f)
    if options == nil then options = {} end
    check.type("retry", 2, options, "table")
    check.settings("retry", options, known)
    local backoff = options.backoff or { FIRST, MOST }
    if type(backoff) == "number" then backoff = { backoff, math.max(backoff, MOST) } end
    local pauses = restart.pauses(backoff[1], backoff[2], options.jitter or JITTER)
    return call(f, chooser(options.on), pauses, options.times or TIMES, 1)
end

return retry
