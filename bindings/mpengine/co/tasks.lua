--- Tasks: spawn, their methods, and what is printed of those that fail.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local check = require "mpengine.co.check"

local tasks = {}

---@class mp.Task
---@field value any  the first result, nil until it has returned
---@field error any  what it raised, nil unless it has
---@field name string
local methods = {}
local Task = core.Task
Task.__name = "mp.Task"

-- What is kept with a task besides its state: name, links, traceback; made when it is needed.
local function notes(task)
    local extra = core.extra(task)
    if type(extra) ~= "table" then
        extra = { traceback = extra }
        core.extra(task, extra)
    end
    return extra
end

local fields = {}

function fields.value(task)
    local state, outcome = core.task_state(task)
    if state == "done" and outcome then return (core.results(task)) end
end

function fields.error(task)
    local state, outcome = core.task_state(task)
    if state == "done" and not outcome then return (core.results(task)) end
end

function fields.name(task)
    local extra = core.extra(task)
    if type(extra) == "table" and extra.name then return extra.name end
    local _, _, id = core.task_state(task)
    return task == core.main_task() and "main" or "Task-" .. id
end

function Task:__index(key)
    local method = methods[key]
    if method then return method end
    local field = fields[key]
    if field then return field(self) end
end

function Task:__newindex(key, value)
    if key ~= "name" then
        error(("a task has no field '%s' that can be set (name can)"):format(tostring(key)), 2)
    end
    if type(value) ~= "string" then error("name: a string expected, got " .. type(value), 2) end
    notes(self).name = value
end

function Task:__tostring()
    local state, outcome = core.task_state(self)
    if state == "done" then
        state = outcome and "returned" or outcome == nil and "killed" or "failed"
    end
    return ("mp.Task: %s (%s)"):format(self.name, state)
end

local function check_task(call, index, value)
    if getmetatable(value) ~= Task then
        error(("bad argument #%d to '%s' (task expected, got %s)"):format(index, call,
            value == nil and "no value" or type(value)), 3)
    end
end
tasks.check = check_task

--- Waits for its end: true, or nil, "timeout". An error of the task is not raised.
---@param timeout? number  seconds
function methods:join(timeout)
    return core.join(self, timeout)
end

--- All its results; raises its error; nil, "killed"; nil, "timeout".
---@param timeout? number  seconds
function methods:get(timeout)
    local ok, why = core.join(self, timeout)
    if not ok then return nil, why end
    local _, outcome = core.task_state(self)
    if outcome then return core.results(self) end
    if outcome == nil then return nil, "killed" end
    error((core.results(self)), 0)
end

--- Raises { kind = "killed", reason = reason } where it waits, and again at later waits. Does not
--- wait for its end.
---@param reason? any
function methods:kill(reason)
    core.kill(self, errors.new { kind = "killed", message = "killed", reason = reason })
end

--- Has it ended?
---@return boolean
function methods:ready()
    return core.task_state(self) == "done"
end

--- Has it returned?
---@return boolean
function methods:successful()
    local _, outcome = core.task_state(self)
    return outcome == true
end

--- Calls f(task), in a task of its own, when it has ended.
---@param f fun(task: mp.Task)
function methods:link(f)
    check.type("link", 1, f, "function")
    if self:ready() then
        core.spawn(f, self)
        return
    end
    local extra = notes(self)
    local links = extra.links or {}
    extra.links = links
    links[#links + 1] = f
end

local function report(task, extra)
    local err = core.results(task)
    local traceback = type(extra) == "table" and extra.traceback or extra
    local text = ("%s: %s\n%s"):format(task.name, errors.text(err), traceback or "")
    local place = core.spawn_place(task)
    if place then text = text .. "\nspawned by:" .. place end
    core.flush()
    core.write_error(text:gsub("\n*$", "\n"))
end

--- The scheduler calls this for a task that has links, or failed while nobody waited for it.
local function on_end(task, unheard)
    local extra = core.extra(task)
    if unheard then report(task, extra) end
    if type(extra) ~= "table" or not extra.links then return end
    local links = extra.links
    extra.links = nil
    for _, f in ipairs(links) do core.spawn(f, task) end
end
debug.getregistry()["mpengine.task_ended"] = on_end

tasks.spawn = core.spawn
tasks.sleep = core.sleep

local function delayed(seconds, f, ...)
    core.sleep(seconds)
    return f(...)
end

--- A task that begins so many seconds later.
---@param seconds number
---@param f function
---@return mp.Task
function tasks.spawn_later(seconds, f, ...)
    check.seconds("spawn_later", 1, seconds)
    check.type("spawn_later", 2, f, "function")
    return core.spawn(delayed, seconds, f, ...)
end

--- The running task; a coroutine that a task made itself is that task.
---@return mp.Task
function tasks.current()
    return (core.current())
end

--- Kills all of a list; does not wait for their ends.
---@param list mp.Task[]
function tasks.killall(list, reason)
    check.type("killall", 1, list, "table")
    for _, task in ipairs(list) do task:kill(reason) end
end

return tasks
