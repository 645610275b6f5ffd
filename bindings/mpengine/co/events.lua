--- co.Event and co.AsyncResult.
local core = require "mpengine.core"
local check = require "mpengine.check"
local class = require "mpengine.co.class"

local events = {}

-- ---- Event ----

---@class mp.co.Event
local Event, event_methods = class.new("Event", function(self) return self.on and "set" or "clear" end)

function event_methods:set()
    self.on = true
    self.waiting:wake()
end

function event_methods:clear() self.on = false end

function event_methods:is_set()
    core.look()
    return self.on
end

--- true, or nil, "timeout"
---@param timeout? number
function event_methods:wait(timeout)
    check.timeout("wait", 1, timeout)
    if self.on then
        if core.check_cancelled() then core.let_others() end
        return true
    end
    return self.waiting:wait(timeout)
end

function Event.__ready(self) return self.on end

---@return mp.co.Event
function events.Event()
    local self = setmetatable({ on = false }, Event)
    self.waiting = core.waitlist(self)
    self.watchers = self.waiting
    return self
end

-- ---- AsyncResult ----

---@class mp.co.AsyncResult
---@field value any  nil until it is set
---@field error any  what set_error was given
local Result, result_methods = class.new("AsyncResult", function(self)
    return not self.done and "not ready" or self.failed and "failed" or "ready"
end)

local function finish(self, call)
    if self.done then error(call .. ": the result was set already", 3) end
    self.done = true
    self.waiting:wake()
end

--- Gives it its values, once.
function result_methods:set(...)
    finish(self, "set")
    self.value, self.values = ..., table.pack(...)
end

--- Makes get raise err.
function result_methods:set_error(err)
    finish(self, "set_error")
    self.error, self.failed = err, true
end

function result_methods:ready()
    core.look()
    return self.done
end

function result_methods:successful()
    core.look()
    return self.done and not self.failed
end

--- true, or nil, "timeout"
---@param timeout? number
function result_methods:wait(timeout)
    check.timeout("wait", 1, timeout)
    if self.done then
        if core.check_cancelled() then core.let_others() end
        return true
    end
    return self.waiting:wait(timeout)
end

--- The values; raises the error; nil, "timeout".
---@param timeout? number
function result_methods:get(timeout)
    check.timeout("get", 1, timeout)
    local ok, why = self:wait(timeout)
    if not ok then return nil, why end
    if self.failed then error(self.error, 0) end
    return table.unpack(self.values, 1, self.values.n)
end

--- Links it to a task: task:link(result) gives it the task's results, or its error.
function Result.__call(self, task)
    if task:successful() then self:set(task:get()) else self:set_error(task.error) end
end

function Result.__ready(self) return self.done end

---@return mp.co.AsyncResult
function events.AsyncResult()
    local self = setmetatable({ done = false, failed = false }, Result)
    self.waiting = core.waitlist(self)
    self.watchers = self.waiting
    return self
end

return events
