--- What a process of a worker does with a task: it alone decodes the arguments and runs functions.
local envelope = require "mpengine.remote.envelope"
local errors = require "mpengine.errors"
local functions = require "mpengine.remote.functions"
local object = require "mpengine.remote.object"
local outcome = require "mpengine.remote.outcome"

local job = {}

local manager

--- Says first of all which manager the tasks are of.
function job.open(of)
    manager = of
end

local function prepare(sealed)
    local _, flags, _, _, name, from = envelope.read_task(sealed, envelope.content(sealed))
    return functions.find(name), flags, object.decode_part(manager, name, sealed, from)
end

--- Runs a task, whose message the worker has verified: the bytes of its outcome.
---@param sealed string
---@return string
function job.run(sealed)
    local ok, f, flags, args = pcall(prepare, sealed)
    if not ok then return outcome.of_error(manager, errors.is(f) and f or { message = tostring(f) }) end
    if flags & envelope.ITEMS ~= 0 then return outcome.map(manager, f, flags, args) end
    return outcome.call(manager, f, args)
end

return job
