--- What a process of a worker does with a task: it alone decodes the arguments and runs functions.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local functions = require "mpengine.remote.functions"
local object = require "mpengine.remote.object"
local outcome = require "mpengine.remote.outcome"

local job = {}

local function run(manager, task)
    local ok, f, args = pcall(function()
        return functions.find(task.name), object.decode(manager, task.name, task.args)
    end)
    if not ok then
        return outcome.of_error(manager, errors.is(f) and f or { message = tostring(f) }), false
    end
    if task.items then return outcome.map(manager, f, task, args) end
    return outcome.call(manager, f, args)
end

--- Runs a task: the bytes of its outcome, whether it ended well, and the seconds that it took.
---@param manager mpengine.remote.Manager
---@param task mpengine.remote.Task
function job.run(manager, task)
    local from = core.now()
    local bytes, well = run(manager, task)
    return bytes, well, core.now() - from
end

return job
