--- mp.Pool: a set of worker processes that run functions. The process that made it schedules. It
--- puts tasks into one queue from which the idle workers take, so no task waits behind a long one
--- while a worker is idle. The leases of the workers tell it which item died with one.
---
--- This file has the calls; pool/schedule.lua is the flow of tasks, pool/jobs.lua and pool/imap.lua
--- are their sources, pool/source.lua lists and iterators, pool/workers.lua the processes,
--- pool/stop.lua timeouts and cancelling, pool/worker.lua the worker's side.
---
--- A script has a handle with the field `pool`; the tasks that run the pool hold the pool only. So
--- the handle is collected when the script no longer has it, a pending result or an iterator. Then
--- the workers are ended.
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
local sources = require "mpengine.pool.source"
local stop = require "mpengine.pool.stop"
local workers = require "mpengine.pool.workers"

local DRAIN_EVERY = 32 -- tasks put while the caller does not wait, so that results do not pile up

local Pool = { __name = "mp.Pool" }
Pool.__index = Pool

local function fail(call, n, expected, value) errors.raise(check_arg.message(call, n, expected, value)) end

--- The pool behind a handle of this process.
local function check(handle, call)
    if getmetatable(handle) ~= Pool then check_arg.bad_self(call, "mp.Pool", handle) end
    local pool = handle.pool
    if pool.owner ~= process.identity then errors.raise(call .. ": the pool belongs to another process") end
    return pool
end

--- Checks for a pool that takes tasks, and a function to run.
local function check_call(handle, call, f)
    local pool = getmetatable(handle) == Pool and handle.pool
    if not pool or pool.owner ~= process.identity then check(handle, call) end
    if pool.closed then errors.raise(call .. ": the pool is closed") end
    if type(f) ~= "function" then fail(call, 1, "function", f) end
    if pool.trouble then schedule.raise_trouble(pool) end
    return pool
end

-- ---- calls ----

local function apply_async(self, call, f, args, opts)
    local pool = check_call(self, call, f)
    if args ~= nil and type(args) ~= "table" then fail(call, 2, "table of args", args) end
    if opts ~= nil then opts = options.call(call, opts, options.async) end
    args = args or {}
    local job = jobs.call(self, call, publish.func(pool, call, f), args, args.n or #args, opts)
    local ok, bytes, has_objects
    if pool.outstanding < schedule.PLACES and pool.first_job > pool.last_job then
        ok, bytes, has_objects = schedule.put(pool, job, 1, 1)
        if ok then jobs.keep(job, bytes, has_objects) end
        if pool.outstanding > pool.alive and pool.alive < pool.size then workers.start_more(pool) end
        if pool.outstanding % DRAIN_EVERY == 0 then schedule.drain(pool) end
    else
        ok, bytes = pcall(jobs.postpone, pool, job)
        schedule.drain(pool)
        schedule.feed(pool)
    end
    if not ok then error(bytes, 0) end
    return job
end

--- pool:apply_async(f, args [, opts]) -> AsyncResult. Raises if a value cannot be sent.
function Pool:apply_async(f, args, opts) return apply_async(self, "Pool:apply_async", f, args, opts) end

--- pool:apply(f, args) -> the results of f; raises its error. A task that is cancelled in it
--- cancels the call; the other calls that wait do the same.
function Pool:apply(f, args)
    local r <close> = apply_async(self, "Pool:apply", f, args)
    return r:get()
end

--- The settings of a job of many items, from the options of its call.
local function job_options(pool, call, opts, allowed, star)
    opts = options.call(call, opts, allowed)
    return {
        callback = opts.callback, error_callback = opts.error_callback, timeout = opts.timeout, retries = opts.retries,
        chunksize = opts.chunksize, progress = opts.progress, star = star, pack = opts.pack, ahead = opts.ahead,
        return_exceptions = opts.return_exceptions, shared_id = publish.value(pool, call, opts.shared),
    }
end

local function cancel_map(pool, result) stop.cancel(pool, result.job) end

--- The common part of the maps that return a list: an AsyncResult of it.
local function map_async(handle, call, f, list, opts, star)
    local pool = check_call(handle, call, f)
    list = sources.list(call, 2, list)
    opts = job_options(pool, call, opts, options.maps, star)
    local n = #list
    local result = Result.of{
        handle = handle, cancel_with = cancel_map, callback = opts.callback, error_callback = opts.error_callback,
    }
    local job = jobs.map(publish.func(pool, call, f, opts.shared_id), list, n, opts, call, result)
    if n == 0 then
        result:set(job.values)
        return result
    end
    result.job = job
    schedule.enqueue(pool, job)
    schedule.feed(pool)
    return result
end

local function map(handle, call, f, list, opts, star)
    local r <close> = map_async(handle, call, f, list, opts, star)
    return r:get()
end

--- pool:map(f, list [, opts]) -> list of results in order; raises the error of the first item that failed.
function Pool:map(f, list, opts) return map(self, "Pool:map", f, list, opts) end
function Pool:starmap(f, list, opts) return map(self, "Pool:starmap", f, list, opts, true) end

local function copied(list) return type(list) == "table" and table.move(list, 1, #list, 1, {}) or list end

function Pool:map_async(f, list, opts) return map_async(self, "Pool:map_async", f, copied(list), opts) end
function Pool:starmap_async(f, list, opts) return map_async(self, "Pool:starmap_async", f, copied(list), opts, true) end

local function imap_with(handle, call, ordered, f, value, ...)
    local pool = check_call(handle, call, f)
    local source, opts = sources.of(call, value, ...)
    opts = job_options(pool, call, opts, options.imaps)
    return imap.iterator(handle, call, publish.func(pool, call, f, opts.shared_id), source, opts, ordered)
end

--- for i, v in pool:imap(f, list or iterator [, opts]): in order, as they arrive. The state and
--- first value of an iterator may follow it, as pairs(t) and q:iter() return them.
function Pool:imap(...) return imap_with(self, "Pool:imap", true, ...) end

--- for i, v in pool:imap_unordered(f, list or iterator [, opts]): i is the item's index.
function Pool:imap_unordered(...) return imap_with(self, "Pool:imap_unordered", false, ...) end

-- ---- the pool itself ----

--- No more tasks; the workers end when the existing ones are done.
function Pool:close()
    local pool = check(self, "Pool:close")
    if pool.closed then return end
    pool.closed = true
    if pool.trouble then schedule.give_up(pool) end
    if pool.outstanding == 0 and pool.first_job > pool.last_job then pool.inbox:close() end
end

--- Ends the workers at once; unfinished tasks fail with kind "terminated".
function Pool:terminate()
    local pool = check(self, "Pool:terminate")
    if pool.terminated then return end
    pool.closed, pool.terminated = true, true
    pool.inbox:close()
    workers.kill_all(pool)
    schedule.fail_all(pool, { kind = "terminated", message = "the pool was terminated" })
    pool.outbox:close()
    if pool.monitor then pool.monitor:wake() end
end

--- Waits until the workers have ended: true, or nil, "timeout". Raises before close or terminate.
function Pool:join(timeout)
    local pool = check(self, "Pool:join")
    check_arg.timeout("Pool:join", 1, timeout)
    if not pool.closed then errors.raise("Pool:join: the pool is still open (close or terminate it first)") end
    local deadline = timeout and core.now() + timeout
    while pool.alive > 0 do
        local ok, why = pool.changed:wait(deadline and math.max(0, deadline - core.now()))
        if not ok and pool.alive > 0 then return nil, why end
    end
    if not pool.terminated then
        pool.terminated, pool.joined = true, true
        pool.outbox:close()
    end
    return true
end

--- Changes the number of workers; surplus workers end when they have no task.
function Pool:resize(n)
    local pool = check(self, "Pool:resize")
    if math.type(n) ~= "integer" or n < 1 or n > options.CAPACITY then
        fail("Pool:resize", 1, ("number of workers from 1 to %d"):format(options.CAPACITY), n)
    end
    if pool.closed then errors.raise("Pool:resize: the pool is closed") end
    workers.resize(pool, n)
end

--- The state of the pool and its workers.
function Pool:stats()
    local pool = check(self, "Pool:stats")
    return {
        workers = workers.stats(pool), outstanding = pool.outstanding, completed = pool.completed,
        queued = pool.inbox:qsize(), closed = pool.closed or false,
    }
end

--- In a forked child, leaving the scope of the parent's pool does nothing.
function Pool:__close()
    if self.pool.owner == process.identity then self:terminate() end
end

--- The pool is unreachable, so nothing is unfinished. A finalizer may run anywhere, so it only
--- sends signals; the rest is done where the exits of the workers are noticed.
function Pool:__gc()
    local pool = self.pool
    if not pool or pool.owner ~= process.identity or pool.terminated then return end
    pool.closed, pool.terminated = true, true
    workers.kill_all(pool)
end

function Pool:__tostring()
    local pool = self.pool
    local state = pool.joined and "ended" or pool.terminated and "terminated" or pool.closed and "closed" or "running"
    local name = pool.name and (" '%s'"):format(core.escaped(pool.name)) or ""
    return ("mp.Pool: %p%s (%d workers, %d tasks, %s)"):format(self, name, pool.alive, pool.outstanding, state)
end

-- ---- making ----

local running = setmetatable({}, { __mode = "k" }) -- for readers: look/answer.lua

local UPPER = { start_more = workers.start_more, news = workers.news, watch_timeout = stop.watch_timeout }

--- mp.Pool(n) or mp.Pool{ processes =, initializer =, initargs =, maxtasksperchild =, name = }
local function new(first, ...)
    local n, opts = options.pool(first, ...)
    local control = core.pool_control(options.CAPACITY, schedule.PLACES, opts.name)
    local pool = schedule.new({
        size = n, initializer = opts.initializer, initargs = opts.initargs or {}, maxtasks = opts.maxtasksperchild,
        inbox = mp.Queue(), outbox = mp.Queue(), control = control, functions = mp.Dict(), published = publish.new(),
        workers = {}, buffers = {}, alive = 0, unready = 0, next_name = 1, start_failures = 0,
        changed = core.waitlist(), owner = process.identity, method = mp.get_start_method(),
        name = opts.name,
    }, UPPER)
    running[pool] = true
    workers.start(pool, 1)
    core.spawn(schedule.pump, pool)
    return setmetatable({ pool = pool }, Pool)
end

return { Pool = new, running = running }
