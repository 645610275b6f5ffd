--- One child of a supervisor: its process, and the keeper, a task that waits for the exit of the
--- process and starts the next one.
---
--- States: new; starting: its process runs and has not said that it is ready; running; backoff: it
--- waits for its next start; stopping; stopped; exited: it has ended and is not to run again; failed:
--- it was started too often.
local core = require "mpengine.core"
local check = require "mpengine.check"
local context = require "mpengine.context"
local errors = require "mpengine.errors"
local process = require "mpengine.process"
local restart = require "mpengine.restart"
local events = require "mpengine.co.events"
local waiting = require "mpengine.co.wait"

local child = {}

local SOON_SECONDS = 1 -- what runs no longer than this, or than its last pause, begins no new back-off

---@class mpengine.Supervisor.Child
---@field name string
---@field spec table as it was given
---@field supervisor mpengine.Supervisor
---@field state string
---@field process mpengine.Process? that runs
---@field starts integer processes that were started
---@field exitcode integer? of the last process that ended
---@field keeper mp.Task?
---@field wake mpengine.co.Event ends its back-off
---@field times number[] of its last restarts, within the window
---@field is_launching boolean? its first start is in progress
---@field is_asked boolean? it is to be started again whatever its policy
---@field is_stopped boolean? it is not to be started any more
local Child = {}
Child.__index = Child

local function set_state(self, state)
    self.state = state
    self.supervisor.changed:set()
end

local function report(self, what, ...)
    core.report(1, ("%s: %s %s"):format(core.escaped(self.supervisor.name), core.escaped(self.name), what:format(...)))
end

-- ---- a process of it --------------------------------------------------------------------------

--- Starts its process. Raises when it cannot be started.
local function launch(self)
    local spec, ready = self.spec, nil
    if spec.ready then ready = core.makers.Event() end
    local p = process.supervised({
        target = spec.target, args = spec.args or {}, name = self.name, daemon = true, method = self.method,
    }, ready)
    set_state(self, "starting")
    p:start()
    self.process, self.ready, self.began, self.starts = p, ready, core.now(), self.starts + 1
    self.is_asked = false
    set_state(self, ready and "starting" or "running")
    if self.is_stopped then self:end_process() end -- meanwhile
end

--- Asks its process to end.
function Child:end_process()
    if not self.process then return end
    set_state(self, "stopping")
    self.process:terminate()
end

--- Kills its process, unless it ends in time.
local function expire(p, seconds)
    if not p:join(seconds) then p:kill() end
end

--- Waits until it is ready, if it says so.
local function await_ready(self, p)
    local seconds = type(self.spec.ready) == "number" and self.spec.ready or nil
    local first = waiting.wait({ self.ready, p }, seconds, 1)[1]
    if first == self.ready then
        if self.state == "starting" then set_state(self, "running") end
    elseif not first then
        report(self, "(pid %d) was not ready within %.3g s", p.pid, seconds)
        self:end_process()
        expire(p, self.stop_seconds)
    end
end

--- Waits for the exit of its process.
local function watch(self)
    local p = self.process
    if self.ready then await_ready(self, p) end
    p:join()
    self.exitcode, self.process = p.exitcode, nil
end

-- ---- the keeper -------------------------------------------------------------------------------

local function describe(code)
    return code < 0 and ("signal %d"):format(-code) or ("exit code %d"):format(code)
end

--- Is one more start within the bound? Then it counts.
local function may_restart(self)
    local now, kept = core.now(), {}
    for _, at in ipairs(self.times) do
        if now - at < self.supervisor.window then kept[#kept + 1] = at end
    end
    self.times = kept
    if #kept >= self.supervisor.max_restarts then return false end
    kept[#kept + 1] = now
    return true
end

--- Waits before the next start; false when there is to be none. how: why this one ended.
local function back_off(self, how)
    if core.now() - self.began > math.max(SOON_SECONDS, self.pause or 0) then self.pauses:reset() end
    if not may_restart(self) then
        set_state(self, "failed")
        self.supervisor:give_up(("child '%s' was started again %d times within %.3g s and has ended again (%s)"):format(
            core.escaped(self.name), #self.times, self.supervisor.window, how))
        return false
    end
    self.pause = self.pauses:take()
    report(self, "ended (%s); it starts again in %.2g s", how, self.pause)
    set_state(self, "backoff")
    self.wake:clear()
    if not self.is_stopped and not self.is_asked then self.wake:wait(self.pause) end
    return true
end

--- Is it to run again after this exit? nil: its start has failed.
local function is_wanted(self, code)
    local policy = self.spec.restart or "always"
    return policy == "always" or policy == "on_error" and code ~= 0
end

--- Starts it again: true; or false, when it is not to run any more. how: why it has ended.
local function again(self, code, how)
    while true do
        if self.is_stopped then
            set_state(self, "stopped")
            return false
        elseif not self.is_asked then
            if not is_wanted(self, code) then
                set_state(self, "exited")
                return false
            end
            if not back_off(self, how) then return false end
        end
        if not self.is_stopped then
            self.restarts = self.restarts + 1
            local ok, why = pcall(launch, self)
            if ok then return true end
            code, how, self.began = nil, "it cannot be started: " .. errors.message(why), core.now()
        end
    end
end

local function keep(self)
    repeat watch(self) until not again(self, self.exitcode, describe(self.exitcode))
end

-- ---- for the supervisor -----------------------------------------------------------------------

--- Starts it for the first time.
function Child:start()
    self.is_launching = true
    local ok, why = pcall(launch, self)
    self.is_launching = false
    if not ok then
        set_state(self, "stopped")
        error(why, 0)
    end
    self.keeper = core.spawn(keep, self)
end

--- Is its start over, one way or another?
function Child:is_settled()
    return self.state == "running" or self:is_over()
end

--- Is it not to run again?
function Child:is_over()
    return self.state == "exited" or self.state == "stopped" or self.state == "failed"
end

--- Asks for a new process; returns the number that its start will have.
function Child:ask()
    local goal = self.starts + 1
    if self.keeper and not self.keeper:ready() then
        self.is_asked = true
        self.wake:set()
        local p = self.process
        self:end_process()
        if p then core.spawn(expire, p, self.stop_seconds) end
    else
        self.restarts = self.restarts + (self.starts > 0 and 1 or 0)
        self:start()
    end
    return goal
end

--- Ends it: with SIGTERM, and after so many seconds with SIGKILL. Returns when it has exited.
function Child:stop(seconds)
    self.is_stopped = true
    self.wake:set()
    self:end_process()
    self.supervisor:await(function() return not self.is_launching end)
    if not self.keeper then return set_state(self, "stopped") end
    if not self.keeper:join(seconds or self.stop_seconds) then
        if self.process then self.process:kill() end
        self.keeper:join()
    end
end

function Child:status()
    return {
        pid = self.process and self.process.pid, state = self.state, restarts = self.restarts, exitcode = self.exitcode,
    }
end

-- ---- settings ---------------------------------------------------------------------------------

local POLICIES = { always = true, on_error = true, never = true }

local function is_seconds(v) return type(v) == "number" and v >= 0 and v < math.huge end

local known = {
    name = { function(v) return type(v) == "string" and v ~= "" end, "a string" },
    target = { function(v) return type(v) == "function" end, "a function" },
    args = { function(v) return type(v) == "table" end, "a table" },
    restart = { function(v) return POLICIES[v] end, "'always', 'on_error' or 'never'" },
    ready = { function(v) return type(v) == "boolean" or is_seconds(v) end, "true or a number of seconds" },
    stop = { is_seconds, "a number of seconds, 0 or more" },
    method = { function(v) return type(v) == "string" end, "a start method" },
}

--- The i-th child.
function child.new(call, i, spec, supervisor)
    local where = ("%s: child %d"):format(call, i)
    if type(spec) ~= "table" then error(("%s must be a table, got %s"):format(where, check.kind(spec))) end
    check.settings(where, spec, known)
    for _, field in ipairs { "name", "target" } do
        if spec[field] == nil then
            error(("%s: field '%s' must be %s, got no value"):format(where, field, known[field][2]))
        end
    end
    if spec.method then context.check_method(where, spec.method) end
    return setmetatable({
        name = spec.name, spec = spec, supervisor = supervisor, state = "new", starts = 0, restarts = 0, times = {},
        wake = events.Event(), pauses = restart.pauses(table.unpack(supervisor.backoff)),
        method = spec.method or supervisor.method, stop_seconds = spec.stop or supervisor.stop_seconds,
    }, Child)
end

return child
