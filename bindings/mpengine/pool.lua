--- mp.Pool: a set of worker processes that run functions. The process that made it schedules: it puts
--- tasks into one queue that the idle workers take from, so no task waits behind a long one while
--- a worker is idle, and it knows from the control words (lpool.h) which item died with a worker.
---
--- Here are the calls; pool/schedule.lua is the flow of tasks, pool/jobs.lua and pool/imap.lua what they
--- come from, pool/workers.lua the processes, pool/stop.lua timeouts and cancelling, pool/worker.lua the
--- worker's side.
local mp = require "mpengine"
local core = require "mpengine.core"
local check_arg = require "mpengine.check"
local errors = require "mpengine.errors"
local process = require "mpengine.process"
local imap = require "mpengine.pool.imap"
local jobs = require "mpengine.pool.jobs"
local options = require "mpengine.pool.options"
local publish = require "mpengine.pool.publish"
local Result = require "mpengine.pool.result"
local schedule = require "mpengine.pool.schedule"
local stop = require "mpengine.pool.stop"
local workers = require "mpengine.pool.workers"

Result.cancel_with = stop.cancel -- but for maps

local DRAIN_EVERY = 32 -- tasks put, while the caller does not wait: so results do not pile up

local Pool = { __name = "mp.Pool" }
Pool.__index = Pool

local function fail(call, n, expected, value) errors.raise(check_arg.message(call, n, expected, value)) end

--- A pool of this process.
local function check(pool, call)
    if getmetatable(pool) ~= Pool then fail(call, 1, "mp.Pool", pool) end
    if pool.owner ~= process.identity then errors.raise(call .. ": the pool belongs to another process") end
end

--- One that takes tasks, and a function to run.
local function check_call(pool, call, f)
    if getmetatable(pool) ~= Pool or pool.owner ~= process.identity then check(pool, call) end
    if pool.closed then errors.raise(call .. ": the pool is closed") end
    if type(f) ~= "function" then fail(call, 1, "function", f) end
    if pool.failure then error(errors.new(pool.failure), 0) end
end

-- ---- calls ----

--- pool:apply_async(f, args [, opts]) -> AsyncResult. What cannot be sent raises here.
function Pool:apply_async(f, args, opts)
    check_call(self, "apply_async", f)
    if args ~= nil and type(args) ~= "table" then fail("apply_async", 2, "table of args", args) end
    if opts ~= nil then opts = options.call("apply_async", opts, options.async) end
    args = args or {}
    local job = jobs.call(self, publish.func(self, "apply_async", f), args, args.n or #args, opts)
    local ok, bytes, has_objects
    if self.outstanding < schedule.PLACES and self.first_job > self.last_job then
        ok, bytes, has_objects = schedule.put(self, job, 1, 1)
        if ok then jobs.keep(job, bytes, has_objects) end
        if self.outstanding > self.alive and self.alive < self.size then self.start_more(self) end
        if self.outstanding % DRAIN_EVERY == 0 then schedule.drain(self) end
    else
        ok, bytes = pcall(jobs.postpone, self, job)
        schedule.drain(self)
        schedule.feed(self)
    end
    if not ok then errors.raise(bytes) end
    return job
end

--- pool:apply(f, args) -> the results of f; raises its error.
function Pool:apply(f, args)
    check_call(self, "apply", f)
    return self:apply_async(f, args):get()
end

--- What a job of many items is told, from the options of its call.
local function job_options(pool, call, opts, allowed, star)
    opts = options.call(call, opts, allowed)
    return {
        callback = opts.callback, error_callback = opts.error_callback, timeout = opts.timeout, retries = opts.retries,
        chunksize = opts.chunksize, progress = opts.progress, star = star,
        shared_id = publish.value(pool, call, opts.shared),
    }
end

local function cancel_map(pool, result) stop.cancel(pool, result.job) end

--- The common part of the maps that give a list: an AsyncResult of it.
local function map_async(pool, call, f, list, opts, star)
    check_call(pool, call, f)
    if type(list) ~= "table" then fail(call, 2, "table", list) end
    opts = job_options(pool, call, opts, options.maps, star)
    local n = #list
    local result = Result.of{
        pool = pool, cancel_with = cancel_map, callback = opts.callback, error_callback = opts.error_callback,
    }
    local job = jobs.map(publish.func(pool, call, f), list, n, opts, call, result)
    if n == 0 then
        result:set(job.values)
        return result
    end
    result.job = job
    schedule.enqueue(pool, job)
    schedule.feed(pool)
    return result
end

--- pool:map(f, list [, opts]) -> list of results in order; raises the error of the first item that failed.
function Pool:map(f, list, opts) return map_async(self, "map", f, list, opts):get() end
function Pool:starmap(f, list, opts) return map_async(self, "starmap", f, list, opts, true):get() end

local function copied(list) return type(list) == "table" and table.move(list, 1, #list, 1, {}) or list end

function Pool:map_async(f, list, opts) return map_async(self, "map_async", f, copied(list), opts) end
function Pool:starmap_async(f, list, opts) return map_async(self, "starmap_async", f, copied(list), opts, true) end

local function imap_with(pool, call, f, source, opts, ordered)
    check_call(pool, call, f)
    opts = job_options(pool, call, opts, options.imaps)
    return imap.iterator(pool, call, publish.func(pool, call, f), source, opts, ordered)
end

--- for i, v in pool:imap(f, list or iterator [, opts]): in order, as they come.
function Pool:imap(f, source, opts) return imap_with(self, "imap", f, source, opts, true) end

--- for i, v in pool:imap_unordered(f, list or iterator [, opts]): i is the item's index.
function Pool:imap_unordered(f, source, opts) return imap_with(self, "imap_unordered", f, source, opts, false) end

-- ---- the pool itself ----

--- No more tasks; the workers end when those that are there are done.
function Pool:close()
    check(self, "close")
    if self.closed then return end
    self.closed = true
    if self.outstanding == 0 and self.first_job > self.last_job then self.inbox:close() end
end

--- Ends the workers at once; unfinished tasks fail with kind "terminated".
function Pool:terminate()
    check(self, "terminate")
    if self.terminated then return end
    self.closed, self.terminated = true, true
    self.inbox:close()
    workers.kill_all(self)
    schedule.fail_all(self, { kind = "terminated", message = "the pool was terminated" })
    self.outbox:close()
    if self.monitor then self.monitor:wake() end
end

--- Waits until the workers have ended. Raises before close or terminate.
function Pool:join()
    check(self, "join")
    if not self.closed then errors.raise("join: the pool is still open (close or terminate it first)") end
    while self.alive > 0 do self.changed:wait() end
    if not self.terminated then
        self.terminated, self.joined = true, true
        self.outbox:close()
    end
end

--- Changes the number of workers; those that are too many end when they have no task.
function Pool:resize(n)
    check(self, "resize")
    if math.type(n) ~= "integer" or n < 1 or n > options.CAPACITY then
        fail("resize", 1, ("number of workers from 1 to %d"):format(options.CAPACITY), n)
    end
    if self.closed then errors.raise("resize: the pool is closed") end
    workers.resize(self, n)
end

--- What the pool and its workers are doing.
function Pool:stats()
    check(self, "stats")
    return {
        workers = workers.stats(self), outstanding = self.outstanding, completed = self.completed,
        queued = self.inbox:qsize(), closed = self.closed or false,
    }
end

--- A forked child that leaves the scope of its parent's pool leaves it alone.
function Pool:__close()
    if self.owner == process.identity then self:terminate() end
end

function Pool:__tostring()
    local state = self.joined and "ended" or self.terminated and "terminated" or self.closed and "closed" or "running"
    return ("mp.Pool: %p (%d workers, %d tasks, %s)"):format(self, self.alive, self.outstanding, state)
end

-- ---- making ----

--- mp.Pool(n) or mp.Pool{ processes =, initializer =, initargs =, maxtasksperchild = }
local function new(first, ...)
    local n, opts = options.pool(first, ...)
    local control = mp.RawArray("Q", core.pool_control_size(options.CAPACITY, schedule.PLACES))
    control[1] = options.CAPACITY
    local pool = setmetatable({
        size = n, initializer = opts.initializer, initargs = opts.initargs or {}, maxtasks = opts.maxtasksperchild,
        inbox = mp.Queue(), outbox = mp.Queue(), control = control, functions = mp.Dict(), published = publish.new(),
        workers = {}, buffers = {}, alive = 0, unready = 0, next_name = 1, start_failures = 0,
        tasks = {}, outstanding = 0, several = 0, completed = 0,
        jobs = {}, first_job = 1, last_job = 0,
        changed = core.waitlist(), owner = process.identity, method = mp.get_start_method(),
        start_more = workers.start_more, news = workers.news, watch_timeout = stop.watch_timeout,
    }, Pool)
    workers.start(pool, 1)
    core.spawn(schedule.pump, pool)
    return pool
end

return { Pool = new }
