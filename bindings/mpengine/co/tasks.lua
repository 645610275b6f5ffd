--- Tasks: spawn, their methods, and the report of failed tasks.
local core = require "mpengine.core"
local hooks = require "mpengine.hooks"
local errors = require "mpengine.errors"
local check = require "mpengine.check"

local tasks = {}

---@class mp.Task
---@field value any  the first result, nil until it has returned
---@field error any  what it raised, nil unless it has
---@field name string  its function's, unless one was set
local methods = {}
local Task = core.Task
Task.__name = "mp.Task"

-- Data kept with a task besides its state: name, links, ...; made when it is needed.
local function notes(task)
    local extra = core.extra(task)
    if type(extra) ~= "table" then
        extra = {}
        core.extra(task, extra)
    end
    return extra
end
tasks.notes = notes

local fields = {}

function fields.value(task)
    core.look()
    local state, outcome = core.task_state(task)
    if state == "done" and outcome then return (core.results(task)) end
end

function fields.error(task)
    core.look()
    local state, outcome = core.task_state(task)
    if state == "done" and not outcome then return (core.results(task)) end
end

function fields.name(task)
    local extra = core.extra(task)
    if type(extra) == "table" and extra.name then return extra.name end
    return task == core.main_task() and "main" or core.spawned_name(task) or "Task-" .. core.task_id(task)
end

Task.__ready = core.is_done -- see waitable.lua

Task.methods = methods -- where the names of calls are looked up

function Task:__index(key)
    local method = methods[key]
    if method then return method end
    local field = fields[key]
    if field then return field(self) end
end

function Task:__newindex(key, value)
    if key ~= "name" then
        error(string.format("a task has no field '%s' that can be set (name can)", tostring(key)), 2)
    end
    if type(value) ~= "string" then error("name: a string expected, got " .. type(value), 2) end
    notes(self).name = value
end

function Task:__tostring()
    local state, outcome = core.task_state(self)
    if state == "done" then
        state = outcome and "returned" or outcome == nil and "killed" or "failed"
    end
    return string.format("mp.Task: %s (%s)", core.escaped(self.name), state)
end

local function check_task(call, index, value)
    if getmetatable(value) == Task then return end
    if index == 0 then check.bad_self(call, "mp.Task", value) end
    check.fail(call, index, "task", value)
end
tasks.check = check_task

--- Waits for its end: true, or nil, "timeout". Does not raise an error of the task.
---@type fun(self: mp.Task, timeout?: number): true?, string?
methods.join = core.join

--- All its results; raises its error; nil, "killed"; nil, "timeout".
---@type fun(self: mp.Task, timeout?: number): any ...
methods.get = core.get

--- Raises { kind = "killed", reason = reason } where it waits, and again at later waits. Does not
--- wait for its end.
---@param reason? any
function methods:kill(reason)
    check_task("Task:kill", 0, self)
    core.kill(self, errors.new { kind = "killed", message = "killed", reason = reason })
end

--- Whether it has ended.
---@type fun(self: mp.Task): boolean
methods.ready = core.ready

--- Whether it has returned.
---@return boolean
function methods:successful()
    check_task("Task:successful", 0, self)
    core.look()
    local _, outcome = core.task_state(self)
    return outcome == true
end

local function call_link(f, task) f(task) end

--- Calls f(task), in a task of its own, when it has ended.
---@param f fun(task: mp.Task)
function methods:link(f)
    check_task("Task:link", 0, self)
    check.callable("Task:link", 1, f)
    if core.is_done(self) then
        core.spawn_task(call_link, f, self)
        return
    end
    local extra = notes(self)
    local links = extra.links or {}
    extra.links = links
    links[#links + 1] = f
end

--- The lines of the callers that spawned a task, or nil.
function tasks.spawn_place(task)
    local place = core.spawn_place(task)
    return place ~= "" and place or nil
end

--- Where the error of a failed task came from: its name, traceback and spawn place.
function tasks.origin(task)
    local extra = core.extra(task)
    local traceback = type(extra) == "table" and extra.traceback or type(extra) == "string" and extra
    local place = tasks.spawn_place(task)
    return string.format("%s%s", traceback or "", place and "\nspawned by:" .. place or "")
end

--- Reports the error of a task that failed.
function tasks.report(task)
    core.report(1, string.format("%s: %s\n%s", task.name, errors.message(core.results(task)), tasks.origin(task)))
end

-- Links get the error. So do listeners that will raise it; each raises the first error that it
-- gets.
local function is_heard(task, extra)
    local heard = extra.links ~= nil
    for hearer in pairs(extra.hearers or {}) do
        if not hearer.heard then hearer.heard, heard = task, true end
    end
    return heard
end

function hooks.task_ended(task, unheard)
    local extra = core.extra(task)
    if unheard and not (type(extra) == "table" and is_heard(task, extra)) then tasks.report(task) end
    if type(extra) ~= "table" then return end
    for _, f in ipairs(extra.callbacks or {}) do f(task) end
    for _, f in ipairs(extra.links or {}) do core.spawn_task(call_link, f, task) end
    extra.callbacks, extra.links, extra.hearers, extra.locals = nil, nil, nil, nil
end

--- The hearer will raise the error of the task, unless it has heard another error: its `heard` is
--- that task.
function tasks.listen(task, hearer)
    local extra = notes(task)
    extra.hearers = extra.hearers or {}
    extra.hearers[hearer] = true
end

function tasks.unlisten(task, hearer)
    local extra = core.extra(task)
    if type(extra) == "table" and extra.hearers then extra.hearers[hearer] = nil end
end

--- Calls f(task) at once when the task ends; f must not wait.
function tasks.on_end(task, f)
    local extra = notes(task)
    local callbacks = extra.callbacks or {}
    extra.callbacks = callbacks
    callbacks[#callbacks + 1] = f
end

local function delayed(seconds, f, ...)
    core.sleep(seconds)
    return f(...)
end

--- A task that starts after so many seconds.
---@param seconds number
---@param f function
---@return mp.Task
function tasks.spawn_later(seconds, f, ...)
    check.seconds("co.spawn_later", 1, seconds)
    check.callable("co.spawn_later", 2, f)
    return core.spawn_task(delayed, seconds, f, ...)
end

--- The running task; a coroutine that a task made itself is that task.
---@return mp.Task
function tasks.current()
    return (core.current())
end

--- Kills all tasks of a list; does not wait for their ends.
---@param list mp.Task[]
function tasks.killall(list, reason)
    check.type("co.killall", 1, list, "table")
    for i, task in ipairs(list) do
        if getmetatable(task) ~= Task then
            check.wrong("co.killall", 1, string.format("element %d: task expected, got %s", i, check.kind(task)))
        end
    end
    for _, task in ipairs(list) do task:kill(reason) end
end

function hooks.overdue(traceback, seconds)
    core.report(2, string.format("watchdog: %s has run for %.3g s without waiting\n%s", tasks.current().name, seconds,
        traceback))
end

return tasks
