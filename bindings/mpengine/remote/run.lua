--- A task that a worker runs, as a job of its pool (pool/schedule.lua describes those): its end goes to a function
--- of its queue, so it needs no AsyncResult.
local core = require "mpengine.core"
local job = require "mpengine.remote.job"
local errors = require "mpengine.errors"
local publish = require "mpengine.pool.publish"
local schedule = require "mpengine.pool.schedule"
local stop = require "mpengine.pool.stop"
local pool_worker = require "mpengine.pool.worker"

---@class mpengine.remote.Run
---@field id string of the task
---@field owner string the client that has submitted it
---@field queue table with a function ended(run, bytes of its outcome, seconds), or ended(run, nil, nil, error)
local Run = { where = "Pool", mode = pool_worker.APPLY, shared_id = 0, retries = 0, item_count = 1 }
Run.__index = Run

local ops = {}
Run.ops = ops

function ops.hand_out(self, pool)
    if not self.open then return false end
    self.open = false
    local ok, why = schedule.put(pool, self, 1, 1)
    if not ok then ops.failed(self, 1, errors.new { kind = "error", message = errors.message(why) }) end
    return true
end

function ops.arrived(self, _, _, reports, took, bytes)
    if not reports then return self.queue.ended(self, bytes, took) end
    reports.kind = "error"
    self.queue.ended(self, nil, nil, errors.new(reports))
end

function ops.failed(self, _, err) self.queue.ended(self, nil, nil, err) end
function ops.give_back(self) self.open = true end

function ops.abandon(self, err)
    self.open = false
    if err then self.queue.ended(self, nil, nil, err) end
end

local run = {}

--- The number of job.run in a pool.
local function function_of(pool)
    if not pool.published.names[pool.run_id] then pool.run_id = publish.func(pool, "Pool", job.run) end
    return pool.run_id
end

--- Starts a task; run.tend must follow.
---@param handle mp.Pool
---@param queue table
---@param id string
---@param owner string
---@param sealed string its message
---@param timeout number seconds, 0: none
---@return mpengine.remote.Run
function run.start(handle, queue, id, owner, sealed, timeout)
    local pool = handle.pool
    local self = setmetatable({ id = id, owner = owner, queue = queue, f_id = function_of(pool),
        items = core.encode_args("Pool", 0, sealed), open = true, queued = false }, Run)
    if timeout > 0 then self.timeout, self.mode = timeout, pool_worker.APPLY | pool_worker.TIMED end
    schedule.enqueue(pool, self)
    return self
end

--- Gives the processes of the pool what was started.
function run.tend(handle) schedule.feed(handle.pool) end

--- Stops a task, of which the queue hears no more.
function run.cancel(handle, self) stop.cancel(handle.pool, self) end

return run
