--- co.Event and co.AsyncResult.
local core = require "mpengine.core"
local check = require "mpengine.check"
local class = require "mpengine.co.class"

local getmetatable = debug.getmetatable -- the fast one

local events = {}

local look = core.look

-- ---- Event ----

---@class mp.co.Event
local Event, event_methods = class.new("Event", function(self) return self.on and "set" or "not set" end)

function event_methods:set()
    if getmetatable(self) ~= Event then check.bad_self("co.Event:set", "mp.co.Event", self) end
    self.on = true
    self.waiting:wake()
end

function event_methods:clear()
    if getmetatable(self) ~= Event then check.bad_self("co.Event:clear", "mp.co.Event", self) end
    self.on = false
end

function event_methods:is_set()
    look(self, Event, "co.Event:is_set")
    return self.on
end

--- true, or nil, "timeout"
---@param timeout? number
function event_methods:wait(timeout)
    if getmetatable(self) ~= Event then check.bad_self("co.Event:wait", "mp.co.Event", self) end
    if timeout ~= nil then check.timeout("co.Event:wait", 1, timeout) end
    if self.on then
        if core.check_cancelled() then core.let_others() end
        return true
    end
    return self.waiting:wait(timeout)
end

function Event.__ready(self) return self.on end

---@param opts? { name?: string }
---@return mp.co.Event
function events.Event(opts)
    local self = setmetatable({ on = false, name = class.name_in("co.Event", opts) }, Event)
    self.waiting = core.waitlist(self, true)
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
    if self.done then check.misuse(call, "result_is_set") end
    self.done = true
    self.waiting:wake()
end

--- Sets its values, once.
function result_methods:set(...)
    if getmetatable(self) ~= Result then check.bad_self("co.AsyncResult:set", "mp.co.AsyncResult", self) end
    finish(self, "co.AsyncResult:set")
    self.value, self.values = ..., table.pack(...)
end

--- Makes get raise err.
function result_methods:set_error(err)
    if getmetatable(self) ~= Result then check.bad_self("co.AsyncResult:set_error", "mp.co.AsyncResult", self) end
    finish(self, "co.AsyncResult:set_error")
    self.error, self.failed = err, true
end

function result_methods:ready()
    look(self, Result, "co.AsyncResult:ready")
    return self.done
end

function result_methods:successful()
    look(self, Result, "co.AsyncResult:successful")
    return self.done and not self.failed
end

--- true, or nil, "timeout"
---@param timeout? number
function result_methods:wait(timeout)
    if getmetatable(self) ~= Result then check.bad_self("co.AsyncResult:wait", "mp.co.AsyncResult", self) end
    if timeout ~= nil then check.timeout("co.AsyncResult:wait", 1, timeout) end
    if self.done then
        if core.check_cancelled() then core.let_others() end
        return true
    end
    return self.waiting:wait(timeout)
end

--- The values; raises the error; nil, "timeout".
---@param timeout? number
function result_methods:get(timeout)
    if getmetatable(self) ~= Result then check.bad_self("co.AsyncResult:get", "mp.co.AsyncResult", self) end
    if timeout ~= nil then check.timeout("co.AsyncResult:get", 1, timeout) end
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

---@param opts? { name?: string }
---@return mp.co.AsyncResult
function events.AsyncResult(opts)
    local self = setmetatable({ done = false, failed = false, name = class.name_in("co.AsyncResult", opts) }, Result)
    self.waiting = core.waitlist(self, true)
    self.watchers = self.waiting
    return self
end

return events
