--- Jobs of a pool: what was asked for, cut into tasks when the pool has room for them.
---
--- A job has next(pool) -> task or nil, results of a task come back by done(task, ...), and what is
--- lost by failed(task, error fields). A task names the items first .. first + count - 1 of its job.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local progress = require "mpengine.pool.progress"
local worker = require "mpengine.pool.worker"

local jobs = {}

local TARGET_SECONDS = 0.001 -- what a chunk should take
local CHUNK_MAX = 500

-- ---- one call ----

local Apply = {}
Apply.__index = Apply

--- result: AsyncResult; bytes: the encoded message when it could not be put at once.
function jobs.apply(f_id, args, result, opts)
    return setmetatable({
        f_id = f_id, args = args, result = result, open = true, mode = worker.APPLY,
        timeout = opts.timeout, retries = opts.retries or 0, where = "apply_async",
    }, Apply)
end

function Apply:next()
    if not self.open then return nil end
    self.open = false
    return { job = self, first = 1, count = 1, tries = 0, timeout = self.timeout }
end

function Apply:put(pool, task)
    return core.pool_put(pool.inbox, pool.control, self.where, task.id, self.f_id, false, self.mode,
        table.unpack(self.args, 1, self.args.n))
end

function Apply:done(_, ok, ...)
    if ok then return self.result:set(...) end
    local fields = ...
    fields.kind = "error"
    self.result:set_error(fields)
end

function Apply:failed(_, fields)
    self.result:set_error(fields)
end

function Apply:cancel() self.open = false end

-- ---- many items: map and imap ----

local Map = {}
Map.__index = Map

--- items: a list; n: how many it will have, nil when more keep coming; available: how many it has.
--- deliver(index, value, error object): called for every item, in any order.
function jobs.map(f_id, items, n, available, opts, deliver)
    local job = setmetatable({
        f_id = f_id, shared_id = opts.shared_id or false, items = items, n = n, available = available,
        mode = opts.star and worker.STARMAP or worker.MAP,
        at = 1,              -- next item to hand out
        returned = {},       -- items taken back from a worker, to be handed out first
        pending = 0,         -- handed out and not delivered
        chunk = opts.chunksize or 1,
        adaptive = not opts.chunksize and not opts.timeout and not (opts.retries and opts.retries > 0),
        timeout = opts.timeout, retries = opts.retries or 0,
        deliver = deliver, where = opts.where,
        progress = progress.new(opts.progress, n),
        tries = {},
    }, Map)
    return job
end

--- How many items the next task gets.
local function chunk_size(self, pool)
    local size = self.chunk
    if self.adaptive and self.n then
        local fair = (self.n - self.at + 1) // (2 * pool.size) + 1
        if size > fair then size = fair end
    end
    local left = self.available - self.at + 1
    return size < left and size or left
end

function Map:next(pool)
    local first = table.remove(self.returned)
    if first then
        self.pending = self.pending + 1
        return { job = self, first = first, count = 1, tries = self.tries[first] or 0, timeout = self.timeout }
    end
    local count = chunk_size(self, pool)
    if count < 1 or self.stopped then return nil end
    first = self.at
    self.at = first + count
    self.pending = self.pending + count
    return { job = self, first = first, count = count, tries = 0, timeout = self.timeout }
end

function Map:put(pool, task)
    return core.pool_put(pool.inbox, pool.control, self.where, task.id, self.f_id, self.shared_id, self.mode,
        table.unpack(self.items, task.first, task.first + task.count - 1))
end

local function deliver(self, index, value, err)
    self.pending = self.pending - 1
    self.deliver(index, value, err)
end

--- Learns from a chunk how large the next ones should be.
local function adapt(self, elapsed, count)
    if not self.adaptive then return end
    local each = elapsed / count
    self.each = self.each and self.each * 0.8 + each * 0.2 or each
    local size = math.floor(TARGET_SECONDS / math.max(self.each, 1e-7))
    local limit = math.min(CHUNK_MAX, self.chunk * 2)
    self.chunk = math.max(1, math.min(size, limit))
end

function Map:done(task, count, failed, ...)
    local first = task.first
    if count == 1 and not failed then
        deliver(self, first, (...))
    else
        local values = { ... }
        for i = 1, count do
            local report = failed and failed[i]
            if report then
                report.kind = "error"
                errors.new(report)
            end
            deliver(self, first + i - 1, values[i], report)
        end
    end
    adapt(self, task.elapsed, count)
    if self.progress then
        local bad = 0
        for _ in pairs(failed or {}) do bad = bad + 1 end
        progress.add(self.progress, count, bad)
    end
end

function Map:failed(task, fields)
    local err = errors.is(fields) and fields or errors.new(fields)
    for i = task.first, task.first + task.count - 1 do deliver(self, i, nil, err) end
    progress.add(self.progress, task.count, task.count)
end

--- Takes items first .. last back: they will be handed out again, one by one.
function Map:give_back(first, last)
    for i = last, first, -1 do self.returned[#self.returned + 1] = i end
    self.pending = self.pending - (last - first + 1)
end

function Map:cancel()
    self.stopped = true
    self.returned = {}
end

return jobs
