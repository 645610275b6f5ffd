--- mp.Supervisor: keeps a list of processes running. Each child has a keeper, a task that waits for
--- its exit and starts it again; the supervisor starts them in order and stops them in the reverse
--- order. What one child is and does is in supervisor/child.lua.
local core = require "mpengine.core"
local check = require "mpengine.check"
local context = require "mpengine.context"
local process = require "mpengine.process"
local events = require "mpengine.co.events"
local children = require "mpengine.supervisor.child"
local notify = require "mpengine.notify"

local supervisor = {}

local MAX_RESTARTS, WINDOW_SECONDS = 5, 60
local BACK_OFF_FIRST, BACK_OFF_MOST = 0.1, 30
local STOP_SECONDS = 10 -- from SIGTERM to SIGKILL

---@class mpengine.Supervisor
---@field name string
---@field state "new"|"starting"|"running"|"stopping"|"stopped"|"failed"
---@field children table[] in the order of their start
---@field by_name table<string, table>
---@field changed mpengine.co.Event set by every change of a state, its own or a child's
---@field failure string? why it gave up
---@field is_awaited boolean? a call will raise that
---@field owner table the identity of the process that made it
local Supervisor = { __name = "mp.Supervisor" }
Supervisor.__index = Supervisor

local all = setmetatable({}, { __mode = "k" }) -- those of this process and, after a fork, of its parent

local function check_self(self, call)
    if getmetatable(self) ~= Supervisor then check.bad_self("Supervisor:" .. call, "mp.Supervisor", self) end
    if self.owner ~= process.identity then
        error(("Supervisor:%s: the supervisor belongs to the process that made it"):format(call))
    end
end

function Supervisor:__tostring()
    return ("mp.Supervisor: %s (%s, %d %s)"):format(core.escaped(self.name), self.state, #self.children,
        #self.children == 1 and "child" or "children")
end

--- Suspends the task until done() is true, which changes of states make it.
local function wait_until(self, done)
    while not done() do
        self.changed:clear()
        self.changed:wait()
    end
end

local function set_state(self, state)
    self.state = state
    self.changed:set()
end

local function has_ended(self) return self.state == "stopped" or self.state == "failed" end

local function stop_children(self, seconds)
    for i = #self.children, 1, -1 do self.children[i]:stop(seconds) end
    set_state(self, self.failure and "failed" or "stopped")
end

--- Begins to stop the children, the last one first; in a task of its own, which no timeout of a caller
--- ends.
local function begin_stop(self, seconds)
    if self.state == "stopping" or has_ended(self) then return end
    set_state(self, "stopping")
    core.spawn(stop_children, self, seconds)
end

local function await_end(self)
    wait_until(self, function() return has_ended(self) end)
end

--- A child was started too often: nothing is started any more, and all end.
local function give_up(self, why)
    if self.state == "stopping" then return end
    self.failure = why
    if not self.is_awaited then
        core.report(1, ("%s: %s; all children are stopped"):format(core.escaped(self.name), why))
    end
    begin_stop(self)
end

--- Starts one child after the other; one that says when it is ready is waited for.
local function start_all(self)
    for _, child in ipairs(self.children) do
        local ok, why = pcall(child.start, child)
        if not ok then
            begin_stop(self)
            await_end(self)
            error(why, 0)
        end
        wait_until(self, function() return child:is_settled() or self.state ~= "starting" end)
        if self.state ~= "starting" then return end
    end
    set_state(self, "running")
end

local function start(self, call)
    if self.state ~= "new" then error(("Supervisor:%s: the supervisor was started before"):format(call)) end
    self.is_awaited = true
    set_state(self, "starting")
    start_all(self)
    self.is_awaited = false
    if self.failure then
        await_end(self)
        error(("Supervisor:%s: %s"):format(call, self.failure))
    end
    return self.state == "running"
end

--- Starts the children, in order; one with `ready` is waited for before the next one. Raises when a
--- child cannot be started, and when one was started too often.
---@return mpengine.Supervisor? self
---@return "closed"? why it was stopped meanwhile
function Supervisor:start()
    check_self(self, "start")
    if start(self, "start") then return self end
    return nil, "closed"
end

local function is_at_work(self)
    for _, child in ipairs(self.children) do
        if not child:is_over() then return true end
    end
    return false
end

--- SIGTERM has come.
local function terminate(self)
    notify.stopping()
    self:stop()
end

--- Starts the children if that was not done, and returns when all are stopped: by stop, by SIGTERM, or
--- because no child is to run again. Raises when a child was started too often. A service manager is
--- told when all children run, and are ready.
function Supervisor:run()
    check_self(self, "run")
    local signals = require "mpengine.signal"
    local before = signals.signal("TERM", function() terminate(self) end)
    local function restore() signals.signal("TERM", before) end
    local _ <close> = setmetatable({}, { __close = restore })
    if self.state == "new" then start(self, "run") end
    wait_until(self, function() return self.state ~= "starting" end)
    self.is_awaited = true
    local told <close> = self.state == "running" -- luacheck: ignore 211
        and notify.ready(("%s: %d children"):format(self.name, #self.children)) or nil
    wait_until(self, function() return has_ended(self) or self.state == "running" and not is_at_work(self) end)
    if self.state == "running" then self:stop() end
    if self.failure then error("Supervisor:run: " .. self.failure) end
end

--- Stops the children, the last one first: each gets SIGTERM, and SIGKILL when it has not exited in
--- time. Returns when all have exited.
---@param seconds? number for each child; those of the child, or 10, when absent
---@return true
function Supervisor:stop(seconds)
    check_self(self, "stop")
    check.timeout("Supervisor:stop", 1, seconds)
    begin_stop(self, seconds)
    await_end(self)
    return true
end

function Supervisor:__close()
    if self.owner == process.identity then self:stop() end
end

--- Stops one child and starts it again at once, also one that waits for its next start, or has ended
--- for good. Returns when it has been started, and is ready if it says so.
---@param name string
---@return true?
---@return "closed"? why the supervisor was stopped meanwhile
function Supervisor:restart(name)
    check_self(self, "restart")
    check.type("Supervisor:restart", 1, name, "string")
    local child = self.by_name[name]
    if not child then error(("Supervisor:restart: there is no child '%s'"):format(core.escaped(name))) end
    if self.state ~= "running" and self.state ~= "starting" then
        error(("Supervisor:restart: the supervisor is not running (%s)"):format(self.state))
    end
    local goal = child:ask()
    wait_until(self, function()
        return child.starts >= goal and child:is_settled() or self.state == "stopping" or has_ended(self)
    end)
    if self.state == "stopping" or has_ended(self) then return nil, "closed" end
    return true
end

local function status(self)
    local list = {}
    for _, child in ipairs(self.children) do list[child.name] = child:status() end
    return list
end

--- Of each child, by its name: the pid of its process while there is one, its state, how often it was
--- started again, and the exit code of the last process that ended.
---@return table<string, mpengine.Supervisor.Status>
function Supervisor:status()
    check_self(self, "status")
    core.look()
    return status(self)
end

-- ---- settings ---------------------------------------------------------------------------------

local function number_from(least)
    return function(v) return type(v) == "number" and v >= least and v < math.huge end
end

local function is_backoff(v)
    if type(v) ~= "table" then return false end
    local is_number = number_from(0)
    return is_number(v[1]) and is_number(v[2]) and v[1] <= v[2]
end

local known = {
    max_restarts = { function(v) return v == math.huge or math.type(v) == "integer" and v >= 0 end,
        "an integer, 0 or more, or math.huge" },
    window = { function(v) return number_from(0)(v) and v > 0 end, "a number of seconds above 0" },
    backoff = { is_backoff, "a list of two numbers of seconds, the first and the longest pause" },
    name = { function(v) return type(v) == "string" end, "a string" },
}

local function split(settings)
    local list, others = {}, {}
    for key, value in pairs(settings) do
        if math.type(key) == "integer" then list[key] = value else others[key] = value end
    end
    return list, others
end

local function add(self, i, spec)
    local child = children.new("Supervisor", i, spec, self)
    if self.by_name[child.name] then
        error(("Supervisor: child %d: another child has the name '%s'"):format(i, core.escaped(child.name)))
    end
    self.children[i], self.by_name[child.name] = child, child
end

--- A supervisor of the children in the list, which start starts.
---@param settings mpengine.Supervisor.Settings
---@return mpengine.Supervisor
function supervisor.Supervisor(settings)
    check.type("Supervisor", 1, settings, "table")
    local list, others = split(settings)
    check.settings("Supervisor", others, known)
    if list[1] == nil then error("Supervisor: a list of children expected, got none") end
    local backoff = others.backoff or { BACK_OFF_FIRST, BACK_OFF_MOST }
    local self = setmetatable({
        name = others.name or "supervisor", state = "new", children = {}, by_name = {}, changed = events.Event(),
        owner = process.identity, give_up = give_up, await = wait_until, method = context.scoped(),
        max_restarts = others.max_restarts or MAX_RESTARTS, window = others.window or WINDOW_SECONDS,
        backoff = { backoff[1], backoff[2] }, stop_seconds = STOP_SECONDS,
    }, Supervisor)
    for i, spec in ipairs(list) do add(self, i, spec) end
    for key in pairs(list) do
        if not self.children[key] then
            error(("Supervisor: the list of children has a hole before %d"):format(key))
        end
    end
    all[self] = true
    return self
end

--- For mp.stats: the supervisors of this process that were started.
function supervisor.list()
    local list = {}
    for self in pairs(all) do
        if self.owner == process.identity and self.state ~= "new" then
            list[#list + 1] = { name = self.name, state = self.state, children = status(self) }
        end
    end
    table.sort(list, function(a, b) return a.name < b.name end)
    return list
end

return supervisor
