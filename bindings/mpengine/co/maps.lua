--- The maps of co.Pool, with the names, orders and options of mp.Pool, in tasks.
---
--- A job is one call. Its items run in tasks of the pool. Each leaves an outcome: ok, and its
--- results or the raised value. imap has a puller as in mpengine/pool/imap.lua: a task that takes
--- items from the source, which may wait, while the loop takes finished items.
local core = require "mpengine.core"
local check = require "mpengine.check"
local cancel = require "mpengine.co.cancel"
local errors = require "mpengine.errors"
local events = require "mpengine.co.events"
local options = require "mpengine.pool.options"
local progress = require "mpengine.pool.progress"
local sources = require "mpengine.pool.source"

local MOST <const> = 1000 -- items in flight, in a pool of any size

-- ---- one item ----

local function call(job, item)
    local f, shared = job.f, job.shared
    if not (job.star or job.source.spread) then
        if shared ~= nil then return f(item, shared) end
        return f(item)
    end
    if type(item) ~= "table" then
        error(("starmap: an item is a %s, not a list of arguments"):format(type(item)), 0)
    end
    if shared ~= nil then return f(shared, table.unpack(item, 1, item.n or #item)) end
    return f(table.unpack(item, 1, item.n or #item))
end

local function succeed(...) return true, ... end

-- Calls f under the timeout of a single call; a timeout is an error.
local function limited(timeout, f, ...)
    if not timeout then return f(...) end
    local results = table.pack(cancel.with_timeout(timeout, function(...) return succeed(f(...)) end, ...))
    if results[1] then return table.unpack(results, 2, results.n) end
    error(errors.new { kind = "timeout", message = ("the task took longer than %g s"):format(timeout) }, 0)
end

local function is_timeout(err) return errors.is(err) and err.kind == "timeout" end

-- Calls f(...) under its options, and again when it ran out of time. Returns what core.call
-- returns.
local function attempt(opts, f, ...)
    local outcome
    for _ = 0, opts.retries or 0 do
        outcome = table.pack(core.call(limited, opts.timeout, f, ...))
        if outcome[1] or not is_timeout(outcome[2]) then break end
    end
    return outcome
end

-- The error object of an item: the raised value, if it is one.
local function error_of(index, item, err)
    if not errors.is(err) then
        local traceback = core.traceback_of(err)
        err = errors.new { kind = "error", message = errors.message(err), value = err, traceback = traceback }
    end
    if err.index == nil then err.index, err.item = index, item end
    return err
end

--- Runs an item and calls job.ended(outcome) with its index; an error has become an error object.
local function run_item(job, index, item)
    local outcome = attempt(job.opts, call, job, item)
    outcome.index = index
    if not outcome[1] then
        local err = error_of(index, item, outcome[2])
        outcome[1], outcome[2], outcome.raises = job.opts.return_exceptions or false, err, err
    elseif job.opts.pack then
        outcome[2] = table.pack(table.unpack(outcome, 2, outcome.n))
    end
    return outcome
end

local function start_item(job, index, item)
    job.running = job.running + 1
    local task
    task = job.pool:spawn(function()
        local outcome = run_item(job, index, item)
        job.tasks[task], job.running = nil, job.running - 1
        if job.progress then progress.add(job.progress, 1, outcome.raises and 1 or 0) end
        job.ended(outcome)
    end, job.f) -- which names the task
    job.tasks[task] = true
    if job.over then task:kill("map") end -- the job ended in the meantime
    return task
end

local function kill_items(job, reason)
    job.over = true
    for task in pairs(job.tasks) do task:kill(reason) end
end

local function new_job(pool, f, source, opts)
    return {
        pool = pool, f = f, source = source, opts = opts, star = opts.star, shared = opts.shared,
        tasks = {}, running = 0, progress = progress.new(opts.progress, source.total),
    }
end

-- ---- lists ----

local function finish_progress(job)
    if not job.progress then return end
    progress.finish(job.progress)
    progress.wait(job.progress)
end

-- Starts the items, and returns the tasks when they have ended.
local function run_all(job)
    local spawned = {}
    for index = 1, math.huge do
        local found, item = job.source:next()
        if not found or job.over then break end
        spawned[index] = start_item(job, index, item)
    end
    core.joinall(spawned)
end

-- The results in order. Raises the first error, once the others have been killed.
local function run_map(job)
    local results, failed = {}, nil
    function job.ended(outcome)
        if outcome[1] then
            results[outcome.index] = outcome[2]
        elseif not failed then
            failed = outcome[2]
            kill_items(job, "map")
        end
    end
    local ok, err = core.call(run_all, job)
    if not ok then kill_items(job, "map") end
    finish_progress(job)
    if not ok then error(err, 0) end
    if failed then error(failed, 0) end
    return results
end

-- Passes the outcome to a result and the callbacks.
local function finish(result, opts, ok, ...)
    if result.done then return end
    if ok then
        result:set(...)
        if opts.callback then opts.callback(...) end
    else
        result:set_error((...))
        if opts.error_callback then opts.error_callback((...)) end
    end
end

-- Runs f(...) in a task that is not one of the pool's: only the tasks it spawns are.
local function in_background(opts, f, ...)
    local result = events.AsyncResult()
    local task = core.spawn_task(function(_, ...) finish(result, opts, core.call(f, ...)) end, f, ...)
    function result.cancel()
        if result.done then return false end
        task:kill("cancelled")
        finish(result, opts, false, errors.new { kind = "cancelled", message = "the task was cancelled" })
        return true
    end
    return result
end

-- ---- imap ----

local function took(job, ok, found, item)
    if not ok then job.source_error = { found } end
    if not ok or not found then
        job.exhausted = true
    else
        job.taken = job.taken + 1
        start_item(job, job.taken, item)
    end
end

-- Keeps at most as many items in flight as the window has. Finished items that were not yet
-- returned count.
local function pull(job)
    while not job.exhausted and not job.over and job.taken - job.given < job.window do
        took(job, core.call(job.source.next, job.source))
    end
    if job.over then sources.close(job.source) end
    job.pulling = false
    job.news:wake()
end

local function leave(job)
    job.over = true
    if not job.pulling then sources.close(job.source) end
    finish_progress(job)
end

local function next_ready(job)
    if not job.ordered then return table.remove(job.ready, 1) end
    local outcome = job.ready[job.given + 1]
    job.ready[job.given + 1] = nil
    return outcome
end

local function deliver(job, outcome)
    job.given = job.given + 1
    if not outcome[1] then error(outcome[2], 0) end
    if outcome[2] == nil then return outcome.index, nil, outcome[3] end
    return outcome.index, outcome[2]
end

local function ended(job)
    leave(job)
    local err = job.source_error
    job.source_error = nil
    if err then error(err[1], 0) end
    return nil
end

local function next_result(job)
    while true do
        if not job.pulling and not job.exhausted and not job.over and job.taken - job.given < job.window then
            job.pulling = true
            core.spawn(pull, job)
        end
        local outcome = next_ready(job)
        if outcome then return deliver(job, outcome) end
        if job.over or job.exhausted and job.running == 0 and not job.pulling then return ended(job) end
        local guard <close> = job.guard -- luacheck: ignore 211
        job.news:wait()
    end
end

-- A loop that is cancelled in a wait cancels its items.
local Guard = {
    __close = function(self, err)
        if err ~= nil then kill_items(self.job, "imap") end
    end,
}

-- The end of the for loop: running items are left alone.
local Closer = { __close = function(self) leave(self.job) end }

local function imap(job, ordered)
    job.ordered, job.ready, job.news, job.taken, job.given = ordered, {}, core.waitlist(), 0, 0
    job.window = job.opts.ahead or math.min(job.pool.size or MOST, MOST)
    job.guard = setmetatable({ job = job }, Guard)
    function job.ended(outcome)
        job.ready[ordered and outcome.index or #job.ready + 1] = outcome
        job.news:wake()
    end
    return function() return next_result(job) end, nil, nil, setmetatable({ job = job }, Closer)
end

-- ---- the methods ----

local function check_function(name, f)
    check.callable(name, 1, f)
end

--- Adds the maps to the methods of the pool; called(self, name) checks the pool and gives the public name.
return function(methods, called)
    local function prepare(self, name, f, allowed, star, ...)
        name = called(self, name)
        check_function(name, f)
        local source, opts = sources.of(name, ...)
        local given = options.call(name, opts, allowed)
        opts = setmetatable({ star = star }, { __index = given })
        return new_job(self, f, source, opts)
    end

    local function add(name, star)
        --- f(item) for each: the list of the first results, in order.
        methods[name] = function(self, f, ...)
            local job = prepare(self, name, f, options.maps, star, ...)
            local outcome = table.pack(core.call(run_map, job))
            local told = outcome[1] and job.opts.callback or not outcome[1] and job.opts.error_callback
            if told then told(outcome[2]) end
            if not outcome[1] then error(outcome[2], 0) end
            return outcome[2]
        end
        methods[name .. "_async"] = function(self, f, ...)
            local job = prepare(self, name .. "_async", f, options.maps, star, ...)
            return in_background(job.opts, run_map, job)
        end
    end
    add("map", false)
    add("starmap", true)

    --- for i, v in pool:imap(f, list or iterator): in order, as they finish.
    function methods:imap(f, ...)
        return imap(prepare(self, "imap", f, options.imaps, false, ...), true)
    end

    --- for i, v in pool:imap_unordered(f, list or iterator): as they finish; i is the item's index.
    function methods:imap_unordered(f, ...)
        return imap(prepare(self, "imap_unordered", f, options.imaps, false, ...), false)
    end

    -- Whatever ends the calling task ends the spawned task.
    local function apply(self, opts, f, args)
        local task = self:spawn(function()
            local outcome = attempt(opts, f, table.unpack(args, 1, args.n or #args))
            if not outcome[1] then error(outcome[2], 0) end
            return table.unpack(outcome, 2, outcome.n)
        end, f) -- which names the task
        local guard <close> = setmetatable({}, { __close = function() task:kill("apply") end }) -- luacheck: ignore 211
        return task:get()
    end

    local function check_apply(self, name, f, args)
        name = called(self, name)
        check_function(name, f)
        if args ~= nil and type(args) ~= "table" then check.fail(name, 2, "table of args", args) end
        return name
    end

    --- The results of f(table.unpack(args)), run in the pool.
    function methods:apply(f, args)
        check_apply(self, "apply", f, args)
        return apply(self, {}, f, args or {})
    end

    function methods:apply_async(f, args, opts)
        local name = check_apply(self, "apply_async", f, args)
        opts = options.call(name, opts, options.async)
        return in_background(opts, apply, self, opts, f, args or {})
    end
end
