--- with_timeout and scope: cancelling the tasks of a block of code.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local check = require "mpengine.check"
local tasks = require "mpengine.co.tasks"

local cancel = {}

--- Calls f(...) for at most so many seconds: its results, or nil, "timeout" when it had to be
--- cancelled.
---@param seconds number
---@param f function
function cancel.with_timeout(seconds, f, ...)
    check.seconds("co.with_timeout", 1, seconds)
    check.callable("co.with_timeout", 2, f)
    return core.call_until(errors.new { kind = "timeout", message = "timeout" }, seconds, f, ...)
end

-- ---- scope ----

---@class mp.Scope
local methods = {}
local Scope = { __name = "mp.Scope", __index = methods }

function Scope.__tostring(self)
    return ("mp.Scope: %d task%s"):format(self.count, self.count == 1 and "" or "s")
end

local function kill_children(self)
    for task in pairs(self.children) do task:kill(self.reason) end
end

-- The first failure is raised by the scope; the other tasks are cancelled.
local function fail(self, err, origin)
    if self.failed then return end
    self.failed, self.err, self.origin, self.reason = true, err, origin, "scope"
    self.heard = self.heard or true
    kill_children(self)
    if self.body then core.cancel_scope(self.body, self.owner) end
end

local function child_ended(self, task)
    self.children[task] = nil
    self.count = self.count - 1
    local _, outcome = core.task_state(task)
    if outcome == false then fail(self, (core.results(task)), tasks.origin(task)) end
    if self.count == 0 then self.empty:wake() end
end

--- A task that the scope waits for. Its error cancels the others.
---@param f function
---@return mp.Task
function methods:spawn(f, ...)
    check.callable("Scope:spawn", 1, f)
    if self.closed then error("Scope:spawn: the scope has ended", 2) end
    local task = core.spawn_task(f, ...)
    tasks.on_end(task, function(t) child_ended(self, t) end)
    tasks.listen(task, self)
    self.children[task] = true
    self.count = self.count + 1
    if self.failed then task:kill(self.reason) end
    return task
end

--- Ends the scope early: unfinished tasks are killed.
function methods:cancel(reason)
    self.reason = reason
    self.cancelled = true
    kill_children(self)
    if self.body then core.cancel_scope(self.body, self.owner) end
end

local function end_body(self, token, ok, ...)
    self.body = nil
    if ok then return table.pack(...) end
    local err = ...
    if not rawequal(err, token) then fail(self, err) end
end

-- A scope does not end before its children: whatever interrupts this wait, it is resumed once they
-- are killed.
local function wait_for_children(self)
    while self.count > 0 do
        local ok, err = core.call(self.empty.wait, self.empty)
        if not ok then
            fail(self, err)
            while self.count > 0 do self.empty:wait_shielded() end
        end
    end
end

--- Calls f(s). Returns, with its results, when all tasks of s:spawn() have ended; the first error
--- cancels the others and is raised then.
---@param f fun(s: mp.Scope): ...
function cancel.scope(f)
    check.callable("co.scope", 1, f)
    local token = errors.new { kind = "cancelled", message = "cancelled" }
    local self = setmetatable({ children = {}, count = 0, owner = core.current(), body = core.scope(token) },
        Scope)
    self.empty = core.waitlist(self)
    local results = end_body(self, token, core.call_in(self.body, f, self))
    wait_for_children(self)
    self.closed = true
    if self.failed then
        if self.origin then core.set_traceback(self.err, self.origin) end
        error(self.err, 0)
    end
    if results then return table.unpack(results, 1, results.n) end
end

return cancel
