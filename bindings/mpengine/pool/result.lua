--- AsyncResult: the future outcome of a task, for any number of waiting tasks.
local core = require "mpengine.core"
local check_arg = require "mpengine.check"
local errors = require "mpengine.errors"

local Result = { __name = "mp.AsyncResult" }
Result.__index = Result

local classes = { [Result] = true } -- their metatables

local function check(self, call)
    if not classes[getmetatable(self)] then check_arg.bad_self(call, "mp.AsyncResult", self) end
end

--- Makes a result of a table with the fields handle, of the pool; cancel_with(pool, result), by
--- which its maker prevents it from getting a result; callback, error_callback. Sets state, n,
--- values, err and waiters.
function Result.of(fields) return setmetatable(fields, Result) end

--- The metatable of results that have these fields in common, so that each is a small table.
function Result.class(fields)
    local class = {}
    for key, value in pairs(Result) do class[key] = value end
    for key, value in pairs(fields) do class[key] = value end
    class.__index = class
    classes[class] = true
    return class
end

local function describe(err) return (errors.traceback(err, 3)) end

local function call_now(f, ...)
    local ok, text = errors.call(describe, f, ...)
    if not ok then core.report(1, string.format("mpengine: error in a callback: %s", text)) end
end

--- Runs a callback as a task of its own; an error in it is only shown.
local function call_back(f, ...)
    core.spawn(call_now, f, ...)
end

local function settle(self)
    local waiters = self.waiters
    self.waiters, self.items, self.handle = nil, nil, nil
    if waiters then waiters:wake() end
end

--- The task has results.
function Result:set(...)
    if self.state then return end
    self.state, self.n = "ok", select("#", ...)
    if self.n <= 1 then self.values = (...) else self.values = { ... } end
    if self.callback then call_back(self.callback, ...) end
    settle(self)
end

--- The task has failed with this error object.
function Result:set_error(err)
    if self.state then return end
    self.state, self.err = "error", err
    if self.error_callback then call_back(self.error_callback, self.err) end
    settle(self)
end

--- Waits until there is a result: true, or nil, "timeout".
function Result:wait(timeout)
    check(self, "AsyncResult:wait")
    check_arg.timeout("AsyncResult:wait", 1, timeout)
    if self.state then
        core.did(true)
        return true
    end
    if not self.waiters then self.waiters = core.waitlist(self) end
    local deadline = timeout and core.now() + timeout
    repeat
        local ok, why = self.waiters:wait(deadline and math.max(0, deadline - core.now()))
        if self.state then return true end
        if not ok then return nil, why end
    until self.state
    return true
end

--- The results of the task; raises its error; nil, "timeout" while there is no result.
function Result:get(timeout)
    check(self, "AsyncResult:get")
    check_arg.timeout("AsyncResult:get", 1, timeout)
    if not self.state then
        local ok, why = self:wait(timeout)
        if not ok then return nil, why end
    end
    if self.state == "error" then error(self.err, 0) end
    if self.n == 0 then return end
    if self.n == 1 then return self.values end
    return table.unpack(self.values, 1, self.n)
end

function Result:ready()
    check(self, "AsyncResult:ready")
    core.look()
    return self.state ~= nil
end

--- Raises while there is no result.
function Result:successful()
    check(self, "AsyncResult:successful")
    core.look()
    if not self.state then check_arg.misuse("AsyncResult:successful", "result_not_ready") end
    return self.state == "ok"
end

--- True when the task will give no result: a queued task never runs, a running one is stopped.
function Result:cancel()
    check(self, "AsyncResult:cancel")
    if self.state or not self.cancel_with then return false end
    self.cancel_with(self.handle.pool, self)
    self:set_error(errors.new{ kind = "cancelled", message = "the task was cancelled" })
    return true
end

local done = core.waitlist() -- the source of one that has its result

--- Waiting for it (waitable.lua): ready when get returns at once.
function Result:__ready() return self.state ~= nil end

function Result:__wait_source()
    if self.state then return done end
    self.waiters = self.waiters or core.waitlist(self)
    return self.waiters
end

--- The end of its scope: cancels it if it has no result by then.
function Result:__close()
    if not self.state then self:cancel() end
end

function Result:__tostring()
    return string.format("mp.AsyncResult: %p (%s)", self, self.state or "not ready")
end

return Result
